"""Blending of the seams that raw-pixel patches can leave at every 32nd pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.hidream.config import PATCH


def blend(pixels: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """Spread each patch boundary's jump over `radius` pixels on both sides; (height, width, 3) to the same.

    What a jump has beyond the slopes beside it is taken back in a ramp, so smooth slopes and all pixels
    outside the bands stay as they are. 0 changes nothing; at most half a patch.
    """
    if not 0 <= radius <= PATCH // 2:
        raise ValueError(f"radius must be 0 to {PATCH // 2}, got {radius}")
    if radius == 0:
        return pixels
    levels = pixels.astype(np.float32)
    _feather(levels, radius)
    _feather(levels.swapaxes(0, 1), radius)
    return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)


def _feather(lines: NDArray[np.float32], radius: int) -> None:
    """Blend across every boundary along the first axis, in place."""
    after = np.arange(PATCH, len(lines), PATCH)
    before = after - 1
    slopes = (lines[before] - lines[before - 1] + lines[after + 1] - lines[after]) / 2
    excess = lines[after] - lines[before] - slopes
    for distance in range(radius):
        share = (1 - (distance + 0.5) / radius) / 2
        lines[before - distance] += share * excess
        lines[after + distance] -= share * excess
