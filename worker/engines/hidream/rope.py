"""Rotary positions over three axes, interleaved as Qwen3-VL does."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.hidream.config import TextConfig
from pixelkiln.worker.engines.mlx.rotary import Halves

Positions = NDArray[np.int32]  # (3, tokens): t, h, w


def axis_of_frequency(section: tuple[int, int, int]) -> NDArray[np.int64]:
    """Which of t, h, w each rotary frequency follows: t h w t h w … then t once h and w have their share."""
    axes = np.zeros(sum(section), np.int64)
    for axis in (1, 2):
        axes[axis : 3 * section[axis] : 3] = axis
    return axes


def rotation(positions: Positions, config: TextConfig) -> Halves:
    """The rotation of tokens at `positions` (3, tokens)."""
    half = config.head_dim // 2
    exponents = np.arange(half, dtype=np.float32) / np.float32(half)
    frequencies = (1.0 / np.float32(config.rope_theta) ** exponents).astype(np.float32)
    followed = positions[axis_of_frequency(config.mrope_section)].T.astype(np.float32)  # (tokens, half)
    angles = mx.array(followed * frequencies)
    return Halves(mx.cos(angles), mx.sin(angles))
