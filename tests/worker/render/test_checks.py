"""Black, flat and dark pictures, and patch seams, are told from numbers alone."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkiln.worker.engines.engine import Pixels
from pixelkiln.worker.render.checks import check
from tests.worker.pictures import noise


def filled(value: int, size: int = 64) -> Pixels:
    return np.full((size, size, 3), value, np.uint8)


def kinds(pixels: Pixels) -> list[str]:
    return [warning.split(":")[0] for warning in check(pixels, 32).warnings]


def test_an_ordinary_picture_gives_no_warning() -> None:
    found = check(noise(), 32)
    assert found.warnings == []
    assert 120 < found.luma_mean < 136
    assert found.luma_spread > 40
    assert found.seam_score == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("value", "expected"), [(0, ["black", "flat"]), (20, ["dark", "flat"]), (128, ["flat"]), (255, ["flat"])]
)
def test_an_even_picture_is_flat(value: int, expected: list[str]) -> None:
    assert kinds(filled(value)) == expected
    assert check(filled(value), 32).seam_score == 1.0


def test_a_dark_picture_is_worth_a_look() -> None:
    assert kinds((noise() // 8).astype(np.uint8)) == ["dark"]


def test_luma_weighs_colours_as_the_eye_does() -> None:
    means = []
    for channel in range(3):
        pixels = filled(0)
        pixels[..., channel] = 255
        means.append(check(pixels, 32).luma_mean)
    assert means == pytest.approx([0.2126 * 255, 0.7152 * 255, 0.0722 * 255], abs=0.01)


def test_seams_are_found_on_the_models_grid_only() -> None:
    def tiles(size: int) -> Pixels:
        rows, columns = np.indices((128, 128)) // size
        board = 100 + 40 * ((rows + columns) % 2)
        return (board[..., None] + noise(128, 128) // 64).astype(np.uint8)

    assert check(tiles(32), 32).seam_score > 10
    assert check(tiles(20), 32).seam_score < 2
    assert check(tiles(16), 16).seam_score > 10


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 4096), (96, 64)])
def test_any_size_that_a_job_may_have(height: int, width: int) -> None:
    assert np.isfinite(check(noise(width, height), 32).seam_score)


def test_one_cell_of_the_grid_has_no_seam() -> None:
    assert check(noise(32, 32), 32).seam_score == 1.0
