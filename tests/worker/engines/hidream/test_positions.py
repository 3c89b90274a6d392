from __future__ import annotations

import numpy as np

from pixelkiln.worker.engines.hidream.positions import patch_positions, text_positions
from pixelkiln.worker.engines.hidream.rope import axis_of_frequency

PAD = 9


def test_text_counts_up_on_all_axes() -> None:
    assert text_positions([1, 2, 3], PAD).tolist() == [[0, 1, 2]] * 3


def test_an_image_is_a_grid_and_text_follows_its_largest_side() -> None:
    ids = [1, 8, *[PAD] * 6, 7, 8, *[PAD] * 1, 7, 5]
    found = text_positions(ids, PAD, [(2, 3), (1, 1)])
    assert found[0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 5, 6, 7, 8, 9]
    assert found[1].tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 5, 6, 7, 8, 9]
    assert found[2].tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 9]


def test_patches_start_at_the_fixed_point_and_references_follow() -> None:
    found = patch_positions((2, 3), [(1, 2), (3, 1)])
    assert found[:, 0].tolist() == [4096, 4096, 4096]
    assert found[:, 5].tolist() == [4096, 4097, 4098]
    assert found[:, 6:8].T.tolist() == [[4099, 4099, 4099], [4099, 4099, 4100]]
    assert found[:, 8:].T.tolist() == [[4101, 4101, 4101], [4101, 4102, 4101], [4101, 4103, 4101]]


def test_frequencies_interleave_until_an_axis_has_its_share() -> None:
    assert axis_of_frequency((4, 2, 2)).tolist() == [0, 1, 2, 0, 1, 2, 0, 0]
    released = axis_of_frequency((24, 20, 20))
    assert np.bincount(released).tolist() == [24, 20, 20]
    assert released[60:].tolist() == [0, 0, 0, 0]
