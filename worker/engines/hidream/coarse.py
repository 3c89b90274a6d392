"""The first steps of a render on a grid of half the side, and the way from there to the picture's own.

A flash sampler says at every step what the clean picture is. After the last coarse step that is enlarged and
noised again for the next one, as it would have been at its own size.
"""

from __future__ import annotations

from itertools import product

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.hidream.config import CHANNELS, PATCH
from pixelkiln.worker.engines.hidream.patches import to_patches, to_planes
from pixelkiln.worker.engines.hidream.positions import Grid
from pixelkiln.worker.engines.mlx.noise import Noise

OWN = 1024  # added to a step's number where a small grid draws noise of its own
SHARPNESS = -0.5  # of the bicubic kernel (Keys, 1981)


def halved(grid: Grid) -> Grid:
    """The small grid: half of each side, rounded so that the picture's proportions change least.

    Both grids show the same picture, stretched by what the proportions differ. The smaller grid of two that
    are as near.
    """
    rows, columns = ({max(1, side // 2), (side + 1) // 2} for side in grid)

    def stretch(small: Grid) -> float:
        ratio = small[0] * grid[1] / (small[1] * grid[0])
        return max(ratio, 1 / ratio)

    return min(product(rows, columns), key=lambda small: (stretch(small), small))


def enlarge(patches: mx.array, small: Grid, grid: Grid) -> mx.array:
    """Bicubic: (…, small patches, 3072) float32 to (…, patches, 3072)."""
    rows, columns = small
    split = patches.reshape(-1, rows, columns, CHANNELS, PATCH, PATCH).transpose(0, 3, 1, 4, 2, 5)
    planes = split.reshape(-1, CHANNELS, rows * PATCH, columns * PATCH)
    planes = _stretched(_stretched(planes, 2, grid[0] * PATCH), 3, grid[1] * PATCH)
    split = planes.reshape(-1, CHANNELS, grid[0], PATCH, grid[1], PATCH).transpose(0, 2, 4, 1, 3, 5)
    return split.reshape(*patches.shape[:-2], grid[0] * grid[1], patches.shape[-1])


def _stretched(planes: mx.array, axis: int, size: int) -> mx.array:
    """Sums of four neighbours, each product rounded to float32 on every device; edges repeat."""
    old = planes.shape[axis]
    at = (np.arange(size) + 0.5) * old / size - 0.5
    first = np.floor(at).astype(np.int64)
    shape = [1] * planes.ndim
    shape[axis] = size
    parts = []
    for tap in range(-1, 3):
        weight = mx.array(_keys(np.abs(at - (first + tap))).astype(np.float32).reshape(shape))
        parts.append(mx.take(planes, mx.array(np.clip(first + tap, 0, old - 1)), axis) * weight)
    return parts[0] + parts[1] + parts[2] + parts[3]


def _keys(x: NDArray[np.float64]) -> NDArray[np.float64]:
    a = SHARPNESS
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def coarse_noise(noise: Noise, own: Noise, small: Grid, grid: Grid) -> Noise:
    """Noise of the small grid. `noise` is the full grid's, `own` draws for the small one.

    Where the small grid is the exact half it is the sum of each four values of the full one's over 2: as
    normal and as independent, and the render begins from what the full one would begin from. Else it is drawn
    anew.
    """
    if (2 * small[0], 2 * small[1]) != grid:
        return lambda step: own(OWN + step)

    def pooled(step: int) -> mx.array:
        planes = to_planes(noise(step), *grid)
        channels, height, width = planes.shape
        fours = planes.reshape(channels, height // 2, 2, width // 2, 2)
        pairs = fours[:, :, 0] + fours[:, :, 1]
        return to_patches((pairs[..., 0] + pairs[..., 1]) / 2)

    return pooled
