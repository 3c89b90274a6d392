"""The noise levels of a render: shifted by how many tokens the picture has, and by the number of steps."""

from __future__ import annotations

import math

from pixelkiln.worker.engines.mlx.schedulers import TRAIN_STEPS, Schedule

CLIFF = 4300  # tokens of the picture: above, the shift is no longer that of few steps
TOKEN = 16  # pixels: the side of the square that one token stands for


def tokens(width: int, height: int) -> int:
    """Of a picture of this size in pixels."""
    return (width // TOKEN) * (height // TOKEN)


def shift(tokens: int, steps: int) -> float:
    """μ, as FLUX.2's authors fitted it to schedules of 10 and of 200 steps.

    Above CLIFF tokens their code takes the line of 200 steps whatever the steps are: at 4 steps μ falls there
    from 2.31 to 1.19, and the picture is another one.
    """
    of_200 = 1.6927e-4 * tokens + 0.45666666
    if tokens > CLIFF:
        return of_200
    of_10 = 8.73809524e-5 * tokens + 1.89833333
    slope = (of_200 - of_10) / 190.0
    return of_200 - 200.0 * slope + slope * steps


def schedule(tokens: int, steps: int) -> Schedule:
    """σ = e^μ / (e^μ + 1/s − 1) at s = 1 − i/steps, then 0."""
    scale = math.exp(shift(tokens, steps))
    sigmas = [scale / (scale + steps / (steps - i) - 1.0) for i in range(steps)]
    return Schedule(tuple(TRAIN_STEPS * sigma for sigma in sigmas), (*sigmas, 0.0))
