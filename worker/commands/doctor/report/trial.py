"""Rendering in this process, without a queue or a bucket: ten pictures, and some minutes without a pause."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker import engines
from pixelkiln.worker.engines.engine import Engine
from pixelkiln.worker.host import machine
from pixelkiln.worker.local.demo import PROMPTS
from pixelkiln.worker.render.budget import Budget


@dataclass(frozen=True, slots=True)
class Shot:
    """One render."""

    seconds: float
    step: float  # median seconds of its steps
    peak: int  # bytes, of the engine's arrays
    resident: int  # bytes of this process afterwards
    mean: float  # of the pixels, in levels of 255: 0 or 255 is a black or a white picture


@dataclass(frozen=True, slots=True)
class Memory:
    """What is held at one moment, in bytes, and what was read from swap until then."""

    active: int
    cached: int
    resident: int
    swapped: int

    @classmethod
    def now(cls) -> Memory:
        """As it is."""
        facts = engines.device_facts()
        return cls(facts.active, facts.cached, machine.resident_bytes(), machine.swap_ins())


def load(folder: Path, settings: Settings, scope: ExitStack) -> Engine:
    """As a worker loads it; until the end of `scope` MLX keeps to a worker's limits."""
    budget = Budget({}, settings).model
    scope.enter_context(engines.limits(budget))
    return engines.load(folder, budget, settings.arithmetic, settings.cache_dir)


def shoot(engine: Engine, number: int) -> Shot:
    """Render the demo's prompts in turn, each time with another seed."""
    spec = RenderSpec.parse({"prompt": PROMPTS[number % len(PROMPTS)], "model": "demo", "seed": number})
    engine.reset_peak()
    started = time.perf_counter()
    steps = list(engine.render(spec))
    seconds = time.perf_counter() - started
    pixels = steps[-1].pixels
    assert pixels is not None
    times = [step.seconds for step in steps[1:]]
    return Shot(seconds, median(times), engine.peak_bytes(), machine.resident_bytes(), float(pixels.mean()))


def soak(
    engine: Engine,
    seconds: float,
    progress: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[Shot]:
    """Render until `seconds` are over, one picture at least; `progress` is told the seconds that went by."""
    began, shots = clock(), list[Shot]()
    while not shots or clock() - began < seconds:
        shots.append(shoot(engine, len(shots)))
        progress(clock() - began)
    return shots
