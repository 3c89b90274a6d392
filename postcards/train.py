"""Trains a small HiDream-O1 from nothing, with the engine's decoder and the Dev recipe's conventions.

The model is shown z = (1 − σ) · x0 + σ · 7.5 · ε and the caption and must say x0. σ is drawn evenly along the
28 listed steps, between them too. An error counts 1/σ² (the flow's velocity is (x̂0 − z)/σ), down to a floor,
so that the last steps, which make the edges, are learnt as well as the first; a little of its absolute value
keeps flat areas flat. The learning rate falls along a cosine as steps, or minutes, pass.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from math import cos, pi
from pathlib import Path
from typing import TypeAlias

import mlx.core as mx
import numpy as np

from postcards import tokenizer as words
from postcards.checkpoint import (
    Components,
    Geometry,
    Parameters,
    components,
    initial,
    write_frame,
    write_weights,
)
from postcards.data import ROOM, Batch, Part, batches, make_pool
from postcards.forward import Given, Places, predict
from postcards.grammar import captioned
from worker.engines.hidream.config import Config
from worker.engines.hidream.recipes import DEV_TIMESTEPS, FAMILIES

NOISE = FAMILIES["dev"].text.noise_start
CLIP = FAMILIES[
    "dev"
].text.noise_clip  # of step noise; the first noise is not clipped, but there z is noise alone
FLOOR = 0.15  # the smallest σ for an error's weight
ABSOLUTE = 0.03  # weight of an error's absolute value beside its square
BETAS, EPSILON, DECAY = (0.9, 0.99), 1e-8, 0.01
SLOW = {  # learning rates of the matrices that start from the patches' principal components
    "model.x_embedder.proj1.weight": 0.2,
    "model.final_layer2.linear.weight": 0.1,
    "model.final_layer2.linear.bias": 0.1,
}
WARMUP = 200  # steps, or a tenth of a shorter run's
BANDS = ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0))  # of σ, whose errors are logged apart

State: TypeAlias = dict[str, Parameters]  # "now", "mean" (EMA), "first" and "second" moments
Arrays: TypeAlias = tuple[mx.array, mx.array, mx.array]  # patches, ids, lengths


@dataclass(frozen=True, slots=True)
class Run:
    """What is trained, on what, for how long."""

    out: Path
    pool: Path
    geometry: Geometry
    seed: int = 0
    scenes: int = 98304
    processes: int = 1
    batch: int = 256
    rate: float = 1e-3
    steps: int | None = None  # one of the two ends a run: steps,
    minutes: float | None = None  # or wall time, the pool's included
    average: float = 0.999  # EMA's decay
    save_seconds: float = 60.0
    log_steps: int = 50
    half: bool = False  # multiply in bfloat16
    compiled: bool = True
    fitted: bool = True  # start the heads from the patches' principal components


def train(run: Run) -> Path:
    """Train, or go on where `run.out` was left; returns the checkpoint's folder."""
    return _Trainer(run).train()


class _Trainer:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.started = time.monotonic()
        self.frame = run.out / "checkpoint"
        self.state_file = run.out / "state.safetensors"
        self.step, self.before = 0, 0.0  # seconds of training in earlier sittings
        self.functions: dict[tuple[int, int], Callable[..., tuple[mx.array, Parameters]]] = {}
        renew = partial(update, average=run.average)
        self.update = mx.compile(renew) if run.compiled else renew

    def train(self) -> Path:
        run = self.run
        self.config = self._frame()
        pool = make_pool(run.pool, self.frame, run.seed, run.scenes, run.processes)
        self._note(event="pool", seconds=round(self._elapsed(), 1), scenes=sum(len(p.patches) for p in pool))
        state = self._restore() or self._begin(pool)
        self.training = time.monotonic()
        saved = logged = time.monotonic()
        counted = self.step
        kept: mx.array | None = None
        for one in batches(pool, run.seed, self.step, run.batch):
            if self._progress() >= 1:
                break
            self.step += 1
            losses, last = kept, self.step % run.log_steps == 0
            state, kept = self._advance(state, one)
            mx.async_eval(state, kept)  # type: ignore[no-untyped-call]
            if losses is not None:
                mx.eval(losses)  # keeps one step in flight, no more
            if last or self.step == 1:
                now = time.monotonic()
                self._log(kept, (self.step - counted) / max(now - logged, 1e-9))
                logged, counted = now, self.step
            if time.monotonic() - saved > run.save_seconds:
                self._save(state)
                saved = time.monotonic()
        self._save(state)
        write_weights(self.frame, state["mean"], f"{self.step} steps of {run.batch}, seed {run.seed}")
        seconds = round(self.before + time.monotonic() - self.training, 1)
        self._note(event="end", step=self.step, seconds=seconds, peak_gb=mx.get_peak_memory() / 2**30)
        return self.frame

    def _frame(self) -> Config:
        if (self.frame / "tokenizer.json").exists():
            return Config.read(self.frame)
        texts = (captioned(self.run.seed, index)[1].text for index in range(4000))
        return write_frame(self.frame, self.run.geometry, words.train(texts))

    def _begin(self, pool: list[Part]) -> State:
        start = self._components(pool) if self.run.fitted else None
        now = initial(self.run.geometry, start, self.run.seed)
        zero = {name: mx.zeros_like(value) for name, value in now.items()}
        self._note(event="start", seconds=round(self._elapsed(), 1), **asdict(self.run.geometry))
        return {"now": now, "mean": dict(now), "first": zero, "second": dict(zero)}

    def _components(self, pool: list[Part]) -> Components:
        rows = [part.patches[:96].reshape(-1, part.patches.shape[-1]) for part in pool]
        return components(np.concatenate(rows).astype(np.float32) / 127.5 - 1, self.run.geometry.hidden)

    def _advance(self, state: State, one: Batch) -> tuple[State, mx.array]:
        if one.size not in self.functions:
            self.functions[one.size] = self._function(one.size)
        arrays = mx.array(one.patches), mx.array(one.ids), mx.array(one.lengths)
        key = mx.random.key(self.run.seed << 32 | self.step)
        bands, slopes = self.functions[one.size](state["now"], arrays, key)
        return self.update(state, slopes, mx.array(self._rate()), mx.array(float(self.step))), bands

    def _function(self, size: tuple[int, int]) -> Callable[..., tuple[mx.array, Parameters]]:
        """Errors and gradients for pictures of this size, compiled."""
        run, config = self.run, self.config.text
        places = Places.of(ROOM, (size[1] // 32, size[0] // 32), config)
        dtype = mx.bfloat16 if run.half else mx.float32

        def losses(now: Parameters, arrays: Arrays, key: mx.array) -> tuple[mx.array, mx.array]:
            return loss(Given(now, dtype), config, places, arrays, key)

        def slopes(now: Parameters, arrays: Arrays, key: mx.array) -> tuple[mx.array, Parameters]:
            (_, bands), found = mx.value_and_grad(losses)(now, arrays, key)
            return bands, found

        return mx.compile(slopes) if run.compiled else slopes

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _progress(self) -> float:
        """How much of the run is over, 0 … 1."""
        run = self.run
        if run.minutes is None:
            assert run.steps is not None, "a run ends after steps or minutes"
            return self.step / run.steps
        trained = self.before + time.monotonic() - self.training
        left = 60 * run.minutes - (self.training - self.started)  # for training, when the pool was there
        return trained / (self.before + left) if left > 0 else 1.0

    def _rate(self) -> float:
        fall = 0.02 + 0.98 * (1 + cos(pi * min(1.0, self._progress()))) / 2
        warm = min(WARMUP, self.run.steps // 10 or 1) if self.run.steps else WARMUP
        return self.run.rate * min(1.0, self.step / warm) * fall

    def _log(self, bands: mx.array, speed: float) -> None:
        errors = [round(float(value), 6) for value in bands.tolist()]  # type: ignore[union-attr, arg-type]
        seconds = round(self.before + time.monotonic() - self.training, 1)
        self._note(
            step=self.step,
            seconds=seconds,
            progress=round(self._progress(), 4),
            rate=round(self._rate(), 7),
            loss=errors[0],
            mse=dict(zip(("low", "mid", "high"), errors[1:], strict=True)),
            steps_per_second=round(speed, 2),
        )

    def _note(self, **facts: object) -> None:
        note(self.run.out, **facts)

    def _save(self, state: State) -> None:
        flat = {f"{part}/{name}": value for part, values in state.items() for name, value in values.items()}
        seconds = self.before + time.monotonic() - self.training
        partial = self.state_file.with_suffix(".partial.safetensors")
        mx.save_safetensors(str(partial), flat, {"step": str(self.step), "seconds": str(seconds)})
        partial.replace(self.state_file)

    def _restore(self) -> State | None:
        if not self.state_file.exists():
            return None
        loaded = mx.load(str(self.state_file), return_metadata=True)
        assert isinstance(loaded, tuple)
        flat, facts = loaded
        state: State = {"now": {}, "mean": {}, "first": {}, "second": {}}
        for name, value in flat.items():
            part, _, own = name.partition("/")
            state[part][own] = value
        self.step, self.before = int(facts["step"]), float(facts["seconds"])
        self._note(event="resume", step=self.step, seconds=round(self.before, 1))
        return state


def sigmas(count: int, key: mx.array) -> mx.array:
    """Noise levels (count,), one in each of `count` equal stretches of the listed steps."""
    last = len(DEV_TIMESTEPS) - 1
    at = (mx.arange(count) + mx.random.uniform(shape=(count,), key=key)) / count * last
    before = mx.minimum(mx.floor(at), last - 1).astype(mx.int32)
    listed = mx.array(DEV_TIMESTEPS, mx.float32) / 1000
    share = at - before
    return listed[before] * (1 - share) + listed[before + 1] * share


def loss(
    given: Given, config: object, places: Places, arrays: Arrays, key: mx.array
) -> tuple[mx.array, mx.array]:
    """The weighted error, and (4,): it again and the plain squared error in each of the three bands of σ."""
    patches, ids, lengths = arrays
    keys = mx.random.split(key, 2)
    clean = patches.astype(mx.float32) / 127.5 - 1
    sigma = sigmas(len(patches), keys[0])
    noise = mx.clip(mx.random.normal(clean.shape, key=keys[1]), -CLIP, CLIP)
    level = sigma[:, None, None]
    z = (1 - level) * clean + level * NOISE * noise
    error = predict(given, config, places, ids, lengths, 1000 * sigma, z) - clean  # type: ignore[arg-type]
    square, absolute = mx.square(error).mean((1, 2)), mx.abs(error).mean((1, 2))
    weight = 1 / mx.square(mx.maximum(sigma, FLOOR))
    total = (weight * (square + ABSOLUTE * absolute)).mean()
    bands = [((sigma >= low) & (sigma < high)).astype(mx.float32) for low, high in BANDS]
    plain = [(square * band).sum() / mx.maximum(band.sum(), 1) for band in bands]
    return total, mx.stack([total, *plain])


def update(state: State, slopes: Parameters, rate: mx.array, at: mx.array, average: float) -> State:
    """One step of AdamW (Loshchilov and Hutter, 2019) on clipped gradients, and of the weights' mean."""
    norm = mx.sqrt(sum((mx.square(slope).sum() for slope in slopes.values()), mx.array(0.0)))
    clip = mx.minimum(1.0, 1.0 / (norm + 1e-6))
    first_share, second_share = 1 - BETAS[0] ** at, 1 - BETAS[1] ** at
    kept = mx.minimum(average, (1 + at) / (10 + at))
    new: State = {"now": {}, "mean": {}, "first": {}, "second": {}}
    for name, slope in slopes.items():
        slope = slope * clip
        value = state["now"][name]
        first = BETAS[0] * state["first"][name] + (1 - BETAS[0]) * slope
        second = BETAS[1] * state["second"][name] + (1 - BETAS[1]) * mx.square(slope)
        move = (first / first_share) / (mx.sqrt(second / second_share) + EPSILON)
        if value.ndim == 2 and name not in SLOW:
            move = move + DECAY * value
        value = value - rate * SLOW.get(name, 1.0) * move
        new["now"][name], new["first"][name], new["second"][name] = value, first, second
        new["mean"][name] = kept * state["mean"][name] + (1 - kept) * value
    return new


def default_processes() -> int:
    """As many as there are processors."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def note(out: Path, **facts: object) -> None:
    """Print facts and add them to a run's log."""
    line = json.dumps(facts)
    print(line, flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.jsonl").open("a") as log:
        log.write(line + "\n")
