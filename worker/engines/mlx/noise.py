"""Noise of (seed, step): equal for equal pairs, never shared by two."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

Noise = Callable[[int], mx.array]  # step to ε, a row a patch; 0 is the start, 1 … the steps

SEED_BITS, STEP_BITS = 53, 11  # together the 64 bits of a key


def noise_key(seed: int, step: int) -> mx.array:
    """The generator's key: the seed's 53 bits above the step's 11, so no two pairs have one key.

    Threefry (Salmon et al., 2011) is made for such related keys: their streams are independent.
    """
    if not 0 <= seed < 1 << SEED_BITS or not 0 <= step < 1 << STEP_BITS:
        raise ValueError(f"no noise for seed {seed}, step {step}")
    return mx.random.key(seed << STEP_BITS | step)


def seeded(seed: int, shape: tuple[int, int]) -> Noise:
    """Standard normal float32 noise for every step of one render."""

    def draw(step: int) -> mx.array:
        return mx.random.normal(shape, dtype=mx.float32, key=noise_key(seed, step))

    return draw
