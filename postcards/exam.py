"""Unseen captions, and the engine's pictures of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from postcards.grammar import Caption, captioned
from postcards.scene import Scene

UNSEEN = 1_000_003  # the seed of the row that captions for scoring come from; training uses small ones

Pixels = NDArray[np.uint8]  # (height, width, 3)
Exam = list[tuple[Scene, Caption]]


def exam(n: int, size: tuple[int, int] | None = None) -> Exam:
    """The captions to render, each with the scene that it was said of."""
    return [captioned(UNSEEN, index, size) for index in range(n)]


def render(
    engine: HiDreamEngine,
    prompt: str,
    size: tuple[int, int],
    seed: int,
    steps: int | None = None,
    coarse_steps: int = 0,
) -> tuple[Pixels, float]:
    """One picture by the engine, and its seconds."""
    spec = RenderSpec(
        prompt=prompt,
        model="demo",
        width=size[0],
        height=size[1],
        seed=seed,
        steps=steps,
        coarse_steps=coarse_steps,
    )
    seconds = 0.0
    for step in engine.render(spec):
        seconds += step.seconds + step.decode_seconds
    assert step.pixels is not None
    return step.pixels, seconds
