"""Pictures as rows of 32 × 32 patches, each flattened channel first: (channel, row, column)."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.hidream.config import CHANNELS, PATCH


def grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of patches of a picture of this size in pixels. Raises ValueError off the grid."""
    if width % PATCH or height % PATCH or width <= 0 or height <= 0:
        raise ValueError(f"{width}×{height} is not a multiple of {PATCH} on both sides")
    return height // PATCH, width // PATCH


def to_patches(planes: mx.array) -> mx.array:
    """(3, height, width) to (patches, 3072), patches in row-major order."""
    channels, height, width = planes.shape
    rows, columns = grid(width, height)
    split = planes.reshape(channels, rows, PATCH, columns, PATCH).transpose(1, 3, 0, 2, 4)
    return split.reshape(rows * columns, -1)


def to_planes(patches: mx.array, rows: int, columns: int) -> mx.array:
    """(patches, 3072) to (3, height, width)."""
    split = patches.reshape(rows, columns, CHANNELS, PATCH, PATCH).transpose(2, 0, 3, 1, 4)
    return split.reshape(CHANNELS, rows * PATCH, columns * PATCH)


def to_pixels(patches: mx.array, rows: int, columns: int) -> NDArray[np.uint8]:
    """(patches, 3072) in −1 … 1 to (height, width, 3): round(clip((z + 1) / 2 · 255, 0, 255))."""
    levels = mx.round(mx.clip((patches + 1.0) / 2.0 * 255.0, 0.0, 255.0)).astype(mx.uint8)
    return np.array(to_planes(levels, rows, columns).transpose(1, 2, 0))
