"""Latents as maps, which the autoencoder has, and as rows of patches, which the transformer has."""

from __future__ import annotations

import mlx.core as mx

PREVIEW = 32  # latents along the longer side of what is decoded for a preview: 256 pixels


def to_patches(latents: mx.array, patch: int) -> mx.array:
    """(rows, columns, channels) to (patches, patch² · channels): row and column in a patch, then channel."""
    rows, columns, channels = latents.shape
    split = latents.reshape(rows // patch, patch, columns // patch, patch, channels).swapaxes(1, 2)
    return split.reshape(-1, patch * patch * channels)


def to_map(patches: mx.array, rows: int, columns: int, patch: int) -> mx.array:
    """The inverse, to a map of so many rows and columns of patches."""
    split = patches.reshape(rows, columns, patch, patch, -1).swapaxes(1, 2)
    return split.reshape(rows * patch, columns * patch, -1)


def shrunk(latents: mx.array, most: int = PREVIEW) -> mx.array:
    """(rows, columns, channels) averaged over squares until neither side is longer than `most`."""
    rows, columns, channels = latents.shape
    square = -(-max(rows, columns) // most)
    more = [(0, -side % square) for side in (rows, columns)]
    whole = mx.pad(latents, [*more, (0, 0)], mode="edge")
    split = whole.reshape(whole.shape[0] // square, square, whole.shape[1] // square, square, channels)
    return split.mean(axis=(1, 3))
