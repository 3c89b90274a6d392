"""The bicubic filter that the vision tower's pictures were prepared with: torchvision's, for 8-bit pixels.

Pillow's differs in a few pixels by up to 2 of 255, which moves features by a tenth. Taps are whole numbers of
16 bits, and each direction rounds to 8 (ATen's `upsample_avx_bilinear_bicubic_uint8`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pixelkiln.jobs.proportions import Size

SHARPNESS = -0.5  # of Keys' cubic convolution (1981), as with antialiasing
REACH = 2  # pixels on each side, of the smaller picture


def resized(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """(height, width, 3) at another `size`: across first, then down."""
    width, height = size
    if pixels.shape[1] != width:
        pixels = _along(pixels.swapaxes(0, 1), width).swapaxes(0, 1)
    return pixels if len(pixels) == height else _along(pixels, height)


def _along(pixels: NDArray[np.uint8], outputs: int) -> NDArray[np.uint8]:
    taps, bits = _taps(len(pixels), outputs)
    # Whole numbers far below 2^53: as floats the product is exact, and fast.
    sums = np.tensordot(taps, pixels.astype(np.float64), 1).astype(np.int64)
    levels: NDArray[np.uint8] = np.clip((sums + (1 << (bits - 1))) >> bits, 0, 255).astype(np.uint8)
    return levels


def _taps(inputs: int, outputs: int) -> tuple[NDArray[np.float64], int]:
    """(outputs, inputs) whole numbers, and how many of their bits stand behind the point."""
    scale = inputs / outputs
    stretch = max(scale, 1.0)
    taps = np.zeros((outputs, inputs))
    for i in range(outputs):
        centre = scale * (i + 0.5)
        first = max(int(centre - REACH * stretch + 0.5), 0)
        last = min(int(centre + REACH * stretch + 0.5), inputs)
        weights = [_cubic((j - centre + 0.5) / stretch) for j in range(first, last)]
        taps[i, first:last] = np.array(weights) / sum(weights)
    bits = 0
    while bits < 22 and int(0.5 + taps.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    scaled = taps * (1 << bits)
    return np.trunc(scaled + np.copysign(0.5, scaled)), bits


def _cubic(x: float) -> float:
    x, a = math.fabs(x), SHARPNESS
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((x - 5) * x + 8) * x * a - 4 * a if x < 2 else 0.0
