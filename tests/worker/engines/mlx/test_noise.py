from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from pixelkiln.worker.engines.mlx.noise import noise_key, seeded

SHAPE = (6, 3072)


def test_equal_for_equal_seed_and_step() -> None:
    first = np.array(seeded(5, SHAPE)(3))
    mx.random.seed(99)  # noise owes nothing to the global generator
    assert np.array_equal(first, np.array(seeded(5, SHAPE)(3)))


def test_no_two_pairs_share_a_key() -> None:
    seeds = [0, 1, 2, 27, 28, 29, 2**32 - 1, 2**32, 2**53 - 2, 2**53 - 1]
    keys = {tuple(np.array(noise_key(seed, step)).tolist()) for seed in seeds for step in range(101)}
    assert len(keys) == len(seeds) * 101


def test_neighbours_are_unrelated_standard_normal() -> None:
    draws = [np.array(seeded(seed, SHAPE)(step)).ravel() for seed in (0, 1) for step in (0, 1, 2)]
    for draw in draws:
        assert abs(draw.mean()) < 0.03
        assert abs(draw.std() - 1) < 0.03
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 0.03


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (2**53, 0), (0, -1), (0, 2048)])
def test_out_of_range(seed: int, step: int) -> None:
    with pytest.raises(ValueError, match="no noise for"):
        noise_key(seed, step)
