"""Rotary positions over three axes, interleaved as Qwen3-VL does.

Angles and rotation are elementwise float32: built with a matrix multiply they lose their low bits on hardware
with reduced-precision multipliers, and flat 32 × 32 blocks appear.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.hidream.config import TextConfig
from pixelkiln.worker.engines.mlx.elementwise import fused

Positions = NDArray[np.int32]  # (3, tokens): t, h, w


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and sines of one run of tokens, each (tokens, head_dim / 2) float32."""

    cos: mx.array
    sin: mx.array

    def __call__(self, x: mx.array) -> mx.array:
        """Rotate (1, heads, tokens, head_dim) in float32 and return it in x's dtype.

        The two halves of head_dim are the pairs' first and second members (GPT-NeoX convention).
        """
        first, second = mx.split(x, 2, axis=-1)
        return mx.concatenate(_turn(first, second, self.cos, self.sin), axis=-1)


@fused
def _turn(first: mx.array, second: mx.array, cos: mx.array, sin: mx.array) -> list[mx.array]:
    x, y = first.astype(mx.float32), second.astype(mx.float32)
    return [(x * cos - y * sin).astype(first.dtype), (y * cos + x * sin).astype(first.dtype)]


def axis_of_frequency(section: tuple[int, int, int]) -> NDArray[np.int64]:
    """Which of t, h, w each rotary frequency follows: t h w t h w … then t once h and w have their share."""
    axes = np.zeros(sum(section), np.int64)
    for axis in (1, 2):
        axes[axis : 3 * section[axis] : 3] = axis
    return axes


def rotation(positions: Positions, config: TextConfig) -> Rotation:
    """The rotation of tokens at `positions` (3, tokens)."""
    half = config.head_dim // 2
    exponents = np.arange(half, dtype=np.float32) / np.float32(half)
    frequencies = (1.0 / np.float32(config.rope_theta) ** exponents).astype(np.float32)
    followed = positions[axis_of_frequency(config.mrope_section)].T.astype(np.float32)  # (tokens, half)
    angles = mx.array(followed * frequencies)
    return Rotation(mx.cos(angles), mx.sin(angles))
