"""What an engine computes in."""

from __future__ import annotations

import mlx.core as mx


def default_dtype() -> mx.Dtype:
    """Weights and activations are bfloat16 on a GPU, float32 on a CPU, where bfloat16 is slow."""
    return mx.bfloat16 if mx.default_device() == mx.Device(mx.gpu) else mx.float32


def dtype(arithmetic: str | None) -> mx.Dtype:
    """The type of that name, bfloat16, float16 or float32; None: the default. Raises KeyError."""
    named = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}
    return default_dtype() if arithmetic is None else named[arithmetic]
