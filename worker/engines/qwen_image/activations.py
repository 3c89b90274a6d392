"""Activations, one kernel each on a GPU, computed in float32."""

from __future__ import annotations

import mlx.core as mx

from pixelkiln.worker.engines.mlx.elementwise import fused


@fused
def silu(x: mx.array) -> mx.array:
    """x · sigmoid(x)."""
    y = x.astype(mx.float32)
    return (y * mx.sigmoid(y)).astype(x.dtype)


@fused
def gelu(x: mx.array) -> mx.array:
    """By the normal distribution's integral."""
    y = x.astype(mx.float32)
    return (y * (1 + mx.erf(y * 0.7071067811865476)) / 2).astype(x.dtype)


@fused
def gelu_tanh(x: mx.array) -> mx.array:
    """Its approximation by a hyperbolic tangent."""
    y = x.astype(mx.float32)
    return (y * (1 + mx.tanh(0.7978845608028654 * (y + 0.044715 * y * y * y))) / 2).astype(x.dtype)
