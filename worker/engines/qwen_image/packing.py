"""Latents as rows of tokens: 2 × 2 latents each, flattened channel first: (channel, row, column)."""

from __future__ import annotations

import mlx.core as mx

from pixelkiln.worker.engines.qwen_image.config import LATENT, PATCH

Grid = tuple[int, int]  # rows, columns of tokens
PIXELS = LATENT * PATCH  # the side of the square that one token stands for


def grid(width: int, height: int) -> Grid:
    """Rows and columns of tokens of a picture of this size in pixels. Raises ValueError off the grid."""
    if width % PIXELS or height % PIXELS or width <= 0 or height <= 0:
        raise ValueError(f"{width}×{height} is not a multiple of {PIXELS} on both sides")
    return height // PIXELS, width // PIXELS


def pack(latents: mx.array) -> mx.array:
    """(channels, rows, columns) of latents to (tokens, 4 · channels), tokens in row-major order."""
    channels, rows, columns = latents.shape
    split = latents.reshape(channels, rows // PATCH, PATCH, columns // PATCH, PATCH).transpose(1, 3, 0, 2, 4)
    return split.reshape(-1, channels * PATCH * PATCH)


def unpack(tokens: mx.array, grid: Grid) -> mx.array:
    """(tokens, 4 · channels) to (channels, rows, columns) of latents."""
    rows, columns = grid
    split = tokens.reshape(rows, columns, -1, PATCH, PATCH).transpose(2, 0, 3, 1, 4)
    return split.reshape(-1, rows * PATCH, columns * PATCH)
