"""Latents as maps, which the autoencoder has, and as rows of patches, which the transformer has."""

from __future__ import annotations

import mlx.core as mx


def to_patches(latents: mx.array, patch: int) -> mx.array:
    """(rows, columns, channels) to (patches, patch² · channels): row and column in a patch, then channel."""
    rows, columns, channels = latents.shape
    split = latents.reshape(rows // patch, patch, columns // patch, patch, channels).swapaxes(1, 2)
    return split.reshape(-1, patch * patch * channels)


def to_map(patches: mx.array, rows: int, columns: int, patch: int) -> mx.array:
    """The inverse, to a map of so many rows and columns of patches."""
    split = patches.reshape(rows, columns, patch, patch, -1).swapaxes(1, 2)
    return split.reshape(rows * patch, columns * patch, -1)
