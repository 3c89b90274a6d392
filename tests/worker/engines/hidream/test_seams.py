from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelkiln.worker.engines.hidream.seams import blend


def patchwork(seed: int = 0) -> NDArray[np.uint8]:
    """Grey with a level of its own in every patch."""
    levels = np.random.default_rng(seed).integers(100, 156, (3, 4, 3), np.uint8)
    return levels.repeat(32, axis=0).repeat(32, axis=1)


def jumps(pixels: NDArray[np.uint8]) -> float:
    """Mean step across the boundaries, both ways."""
    levels = pixels.astype(int)
    down, across = np.abs(np.diff(levels, axis=0))[31::32], np.abs(np.diff(levels, axis=1))[:, 31::32]
    return float(down.mean() + across.mean())


def test_off_changes_nothing() -> None:
    assert blend(patchwork(), 0) is not None
    assert np.array_equal(blend(patchwork(), 0), patchwork())


@pytest.mark.parametrize(("radius", "left"), [(1, 0.6), (2, 0.35), (4, 0.2), (8, 0.15)])
def test_a_jump_shrinks_with_the_radius(radius: int, left: float) -> None:
    assert jumps(blend(patchwork(), radius)) < left * jumps(patchwork())


def test_pixels_outside_the_bands_stay() -> None:
    blended, original = blend(patchwork(), 3), patchwork()
    inside = np.array([3 <= i % 32 < 29 for i in range(128)])
    rows, columns = inside[:96], inside
    assert np.array_equal(blended[rows][:, columns], original[rows][:, columns])
    assert np.array_equal(blended[:3, columns], original[:3, columns])  # the picture's edge is no seam


def test_a_smooth_slope_stays() -> None:
    slope = np.arange(128, dtype=np.uint8)[None, :, None] + np.zeros((64, 1, 3), np.uint8)
    assert np.array_equal(blend(slope, 8), slope)


def test_the_picture_given_is_not_changed() -> None:
    pixels = patchwork()
    blend(pixels, 4)
    assert np.array_equal(pixels, patchwork())


def test_a_radius_beyond_half_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="radius"):
        blend(patchwork(), 17)
