from __future__ import annotations

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.hidream.patches import grid, to_patches, to_pixels, to_planes


def test_patches_are_channel_first_and_row_major() -> None:
    planes = mx.arange(3 * 64 * 96).reshape(3, 64, 96)
    patches = to_patches(planes)
    assert patches.shape == (6, 3072)
    row, column, channel, y, x = 1, 2, 2, 5, 7
    at = channel * 1024 + y * 32 + x
    assert patches[row * 3 + column, at].item() == planes[channel, row * 32 + y, column * 32 + x].item()
    assert mx.array_equal(to_planes(patches, 2, 3), planes)


def test_pixels_are_rounded_and_clipped() -> None:
    values = mx.zeros((1, 3072))
    values[0, :5] = mx.array([-1.2, -1.0, 1.0, 1.7, 2 * 100.6 / 255 - 1])
    assert to_pixels(values, 1, 1)[0, :5, 0].tolist() == [0, 0, 255, 255, 101]


@pytest.mark.parametrize("size", [(31, 64), (64, 33), (0, 64), (-32, 64)])
def test_sizes_off_the_grid(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        grid(*size)
