"""How a time is told to a model."""

from __future__ import annotations

import math

import mlx.core as mx

FREQUENCIES = 128
MAX_PERIOD = 10000


def sinusoid(t: mx.array) -> mx.array:
    """(n,) times to (n, 256) float32: cosines of t · 10000^(−i/128), then their sines.

    Sinusoidal timestep embedding as in Nichol et al., GLIDE (2021).
    """
    steps = mx.arange(FREQUENCIES, dtype=mx.float32)
    angles = t.astype(mx.float32)[:, None] * mx.exp(-math.log(MAX_PERIOD) * steps / FREQUENCIES)
    return mx.concatenate([mx.cos(angles), mx.sin(angles)], axis=-1)
