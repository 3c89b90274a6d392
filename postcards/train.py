"""Trains a small HiDream-O1 with the engine's decoder and the Dev recipe's conventions, from nothing or on.

The model is shown z = (1 − σ) · x0 + σ · 7.5 · ε and the caption and must say x0. σ is drawn evenly along the
28 listed steps, between them too. An error counts 1/σ² (the flow's velocity is (x̂0 − z)/σ), down to a floor,
so that the last steps, which make the edges, are learnt as well as the first; a little of its absolute value
keeps flat areas flat. The layers' matrices are trained by Muon, all else by AdamW; both rates stay for a
while, then fall in a line to nothing as steps, or minutes, pass. A run may take several sittings.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from typing import TypeAlias

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.recipes import DEV_TIMESTEPS, RECIPES
from postcards import tokenizer as words
from postcards.checkpoint import (
    FRAME,
    Components,
    Geometry,
    Parameters,
    components,
    initial,
    read_weights,
    write_frame,
    write_weights,
)
from postcards.data import Batch, Part, Pool, alike
from postcards.draw import draw
from postcards.forward import Given, Places, predict
from postcards.grammar import captioned
from postcards.pool import PARTS, ROOM, WORDINGS, to_patches
from postcards.scene import sample

NOISE = RECIPES["dev"].text.noise_start
CLIP = RECIPES[
    "dev"
].text.noise_clip  # of step noise; the first noise is not clipped, but there z is noise alone
FLOOR = 0.15  # the smallest σ for an error's weight
ABSOLUTE = 0.03  # weight of an error's absolute value beside its square
BETAS, EPSILON, DECAY = (0.9, 0.99), 1e-8, 0.01
MOMENTUM = 0.95  # Muon's
QUINTIC = (3.4445, -4.7750, 2.0315)  # its Newton–Schulz iteration: a·x + (b·xxᵀ + c·(xxᵀ)²)·x
ITERATIONS = 5
HOLD = 0.4  # of a run, before the rates fall
SLOW = {  # learning rates of the matrices that start from the patches' principal components
    "model.x_embedder.proj1.weight": 0.2,
    "model.final_layer2.linear.weight": 0.1,
    "model.final_layer2.linear.bias": 0.1,
}
FITTED = 256  # scenes whose patches' principal components the heads start from
AHEAD = 2  # steps in flight
WARMUP = 200  # steps, or a tenth of a shorter run's
BANDS = ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0))  # of σ, whose errors are logged apart

State: TypeAlias = dict[str, Parameters]  # "now", "used" (now, as multiplied), "mean" (EMA), moments
SAVED = ("now", "mean", "first", "second")
Arrays: TypeAlias = tuple[mx.array, mx.array, mx.array]  # patches, ids, lengths: of a part, or of a batch


@dataclass(frozen=True, slots=True)
class Run:
    """What is trained, on what, for how long."""

    out: Path
    pool: Path
    geometry: Geometry
    seed: int = 0
    scenes: int = 65536
    start: Path | None = None  # a checkpoint whose weights and vocabulary a run goes on from
    processes: int = 1
    batch: int = 256
    rate: float = 1e-3  # AdamW's
    matrix_rate: float = 0.02  # Muon's: about the largest singular value of a step
    steps: int | None = None  # one of the two ends a run: steps,
    minutes: float | None = None  # or a sitting's wall time, the pool's included
    until: float = 1.0  # the share of the run that is over when this sitting ends
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
        self.started = self.training = time.monotonic()
        self.frame = run.out / "checkpoint"
        self.state_file = run.out / "state.safetensors"
        self.step, self.before = 0, 0.0  # seconds of training in earlier sittings
        self.since = 0.0  # share of the run that was over when this sitting began
        self.functions: dict[tuple[int, int], Callable[..., tuple[mx.array, Parameters]]] = {}
        self.dtype = mx.bfloat16 if run.half else mx.float32
        renew = partial(update, average=run.average)
        self.update = mx.compile(renew) if run.compiled else renew

    def train(self) -> Path:
        run = self.run
        self.config = self._frame()
        pool = Pool(run.pool, self.frame, run.seed, run.scenes, run.processes)
        self._note(event="vocabulary", seconds=round(self._elapsed(), 1))
        state = self._restore() or self._begin()
        self._note(event="weights", seconds=round(self._elapsed(), 1))
        if run.compiled:
            self._compile(state)
        pool.batch(self.step, 1)
        self._note(event="start", seconds=round(self._elapsed(), 1), **asdict(run.geometry))
        self.training = time.monotonic()
        saved = logged = time.monotonic()
        counted = self.step
        bands: deque[mx.array] = deque()
        while self._progress() < run.until:
            one = pool.batch(self.step, run.batch)
            self.step += 1
            state, kept = self._advance(state, one)
            mx.async_eval(state, kept)  # type: ignore[no-untyped-call]
            bands.append(kept)
            if len(bands) > AHEAD:
                mx.eval(bands.popleft())
            if self.step % run.log_steps == 0 or self.step == 1:
                now = time.monotonic()
                self._log(kept, (self.step - counted) / max(now - logged, 1e-9))
                logged, counted = now, self.step
            if time.monotonic() - saved > run.save_seconds:
                self._save(state)
                saved = time.monotonic()
        self._save(state)
        write_weights(self.frame, state["mean"], self._revision())
        seconds = round(self.before + time.monotonic() - self.training, 1)
        self._note(event="end", step=self.step, seconds=seconds, peak_gb=mx.get_peak_memory() / 2**30)
        return self.frame

    def _frame(self) -> Config:
        if (self.frame / "tokenizer.json").exists():
            return Config.read(self.frame)
        if self.run.start is not None:
            self.frame.mkdir(parents=True, exist_ok=True)
            for name in FRAME:
                shutil.copy(self.run.start / name, self.frame / name)
            return Config.read(self.frame)
        texts = (captioned(self.run.seed, index)[1].text for index in range(4000))
        return write_frame(self.frame, self.run.geometry, words.train(texts))

    def _begin(self) -> State:
        if self.run.start is not None:
            now = read_weights(self.run.start, self.run.geometry)
        else:
            start = self._components() if self.run.fitted else None
            now = initial(self.run.geometry, start, self.run.seed)
        zero = {name: mx.zeros_like(value) for name, value in now.items()}
        second = {name: value for name, value in zero.items() if not is_hidden(name)}
        return self._with_used({"now": now, "mean": dict(now), "first": zero, "second": second})

    def _with_used(self, state: State) -> State:
        return {**state, "used": {name: value.astype(self.dtype) for name, value in state["now"].items()}}

    def _components(self) -> Components:
        """Of every other patch of the first scenes, drawn here: the pool is not there yet."""
        parts = [PARTS[index % len(PARTS)] for index in range(FITTED)]
        pictures = [draw(sample(self.run.seed, i, part[:2]), part[2]) for i, part in enumerate(parts)]
        patches = np.concatenate([to_patches(picture)[::2] for picture in pictures])
        return components(patches.astype(np.float32) / 127.5 - 1, self.run.geometry.hidden)

    def _compile(self, state: State) -> None:
        """Step once with each part and forget it: the device compiles while the pool is drawn."""
        for width, height, scale in PARTS:
            places = (width * scale // 32) * (height * scale // 32)
            part = Part(
                size=(width * scale, height * scale),
                scale=scale,
                patches=mx.zeros((1, places, 3072), mx.uint8),
                ids=mx.zeros((1, WORDINGS, ROOM), mx.uint16),
                lengths=mx.full((1, WORDINGS), ROOM, mx.uint8),
            )
            rows = mx.zeros(alike(self.run.batch, scale), mx.uint32)
            mx.eval(self._advance(state, Batch(part, rows, rows)))
            self._note(event="compiled", seconds=round(self._elapsed(), 1), size=part.size)

    def _advance(self, state: State, one: Batch) -> tuple[State, mx.array]:
        part = one.part
        if part.size not in self.functions:
            self.functions[part.size] = self._function(part.size)
        key = mx.random.key(self.run.seed << 32 | self.step)
        arrays = part.patches, part.ids, part.lengths
        values = mx.array(1 / part.patches[0].size)
        bands, slopes = self.functions[part.size](state["used"], arrays, one.rows, one.wordings, key, values)
        share = self._share()
        rates = mx.array([self.run.rate * share, self.run.matrix_rate * share])
        return self.update(state, slopes, rates, mx.array(float(self.step))), bands

    def _function(self, size: tuple[int, int]) -> Callable[..., tuple[mx.array, Parameters]]:
        """Errors and gradients for pictures of this size, compiled."""
        config = self.config.text
        places = Places.of(ROOM, (size[1] // 32, size[0] // 32), config)

        def losses(
            used: Parameters, arrays: Arrays, key: mx.array, share: mx.array
        ) -> tuple[mx.array, mx.array]:
            return loss(Given(used, self.dtype), config, places, arrays, key, share)

        def slopes(
            used: Parameters,
            arrays: Arrays,
            rows: mx.array,
            wordings: mx.array,
            key: mx.array,
            share: mx.array,
        ) -> tuple[mx.array, Parameters]:
            (_, bands), found = mx.value_and_grad(losses)(used, chosen(arrays, rows, wordings), key, share)
            return bands, found

        return mx.compile(slopes) if self.run.compiled else slopes

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def _progress(self) -> float:
        """How much of the run is over, 0 … 1."""
        run = self.run
        if run.minutes is None:
            assert run.steps is not None, "a run ends after steps or minutes"
            return self.step / run.steps
        left = 60 * run.minutes - (self.training - self.started)  # for training, when the pool was there
        share = (time.monotonic() - self.training) / left if left > 0 else 1.0
        return self.since + (run.until - self.since) * share

    def _revision(self) -> str:
        before = f"{Manifest.read(self.run.start).revision}; " if self.run.start is not None else ""
        return f"{before}{self.step} steps of {self.run.batch}, seed {self.run.seed}"

    def _share(self) -> float:
        """Of the full rates."""
        fall = min(1.0, (1 - self._progress()) / (1 - HOLD))
        warm = min(WARMUP, self.run.steps // 10 or 1) if self.run.steps else WARMUP
        return max(0.0, min(1.0, self.step / warm, fall))

    def _log(self, bands: mx.array, speed: float) -> None:
        errors = [round(float(value), 6) for value in bands.tolist()]  # type: ignore[union-attr, arg-type]
        seconds = round(self.before + time.monotonic() - self.training, 1)
        self._note(
            step=self.step,
            seconds=seconds,
            progress=round(self._progress(), 4),
            rate=round(self._share(), 4),
            loss=errors[0],
            mse=dict(zip(("low", "mid", "high"), errors[1:], strict=True)),
            steps_per_second=round(speed, 2),
        )

    def _note(self, **facts: object) -> None:
        note(self.run.out, **facts)

    def _save(self, state: State) -> None:
        flat = {f"{part}/{name}": value for part in SAVED for name, value in state[part].items()}
        seconds = self.before + time.monotonic() - self.training
        partial = self.state_file.with_suffix(".partial.safetensors")
        facts = {"step": self.step, "seconds": seconds, "progress": self._progress()}
        mx.save_safetensors(str(partial), flat, {name: str(value) for name, value in facts.items()})
        partial.replace(self.state_file)

    def _restore(self) -> State | None:
        if not self.state_file.exists():
            return None
        loaded = mx.load(str(self.state_file), return_metadata=True)
        assert isinstance(loaded, tuple)
        flat, facts = loaded
        state: State = {part: {} for part in SAVED}
        for name, value in flat.items():
            part, _, own = name.partition("/")
            state[part][own] = value
        self.step, self.before = int(facts["step"]), float(facts["seconds"])
        self.since = min(float(facts["progress"]), self.run.until)
        self._note(event="resume", step=self.step, seconds=round(self.before, 1))
        return self._with_used(state)


def sigmas(count: int, key: mx.array) -> mx.array:
    """Noise levels (count,), one in each of `count` equal stretches of the listed steps."""
    last = len(DEV_TIMESTEPS) - 1
    at = (mx.arange(count) + mx.random.uniform(shape=(count,), key=key)) / count * last
    before = mx.minimum(mx.floor(at), last - 1).astype(mx.int32)
    listed = mx.array(DEV_TIMESTEPS, mx.float32) / 1000
    share = at - before
    return listed[before] * (1 - share) + listed[before + 1] * share


def chosen(arrays: Arrays, rows: mx.array, wordings: mx.array) -> Arrays:
    """A part's (scenes, …) to a batch's (batch, …)."""
    patches, ids, lengths = arrays
    return patches[rows], ids[rows, wordings].astype(mx.int32), lengths[rows, wordings].astype(mx.int32)


def loss(
    given: Given, config: object, places: Places, arrays: Arrays, key: mx.array, share: mx.array
) -> tuple[mx.array, mx.array]:
    """The weighted error, and (4,): it again and the plain squared error in each of the three bands of σ.

    `share` is that of one value in a picture: an argument, since a constant would be compiled into kernels of
    each format's own.
    """
    patches, ids, lengths = arrays
    keys = mx.random.split(key, 2)
    clean = patches.astype(mx.float32) / 127.5 - 1
    sigma = sigmas(len(patches), keys[0])
    noise = mx.clip(mx.random.normal(clean.shape, key=keys[1]), -CLIP, CLIP)
    level = sigma[:, None, None]
    z = (1 - level) * clean + level * NOISE * noise
    error = predict(given, config, places, ids, lengths, 1000 * sigma, z) - clean  # type: ignore[arg-type]
    square, absolute = mx.square(error).sum((1, 2)) * share, mx.abs(error).sum((1, 2)) * share
    weight = 1 / mx.square(mx.maximum(sigma, FLOOR))
    total = (weight * (square + ABSOLUTE * absolute)).mean()
    bands = [((sigma >= low) & (sigma < high)).astype(mx.float32) for low, high in BANDS]
    plain = [(square * band).sum() / mx.maximum(band.sum(), 1) for band in bands]
    return total, mx.stack([total, *plain])


def is_hidden(name: str) -> bool:
    """Whether Muon trains it: a matrix between two layers."""
    return ".layers." in name and name.endswith("proj.weight")


def update(state: State, slopes: Parameters, rates: mx.array, at: mx.array, average: float) -> State:
    """One step of Muon (Jordan et al., 2024), AdamW (Loshchilov and Hutter, 2019) and the weights' mean.

    `rates` (2,) are AdamW's and Muon's, `at` counts steps from 1.
    """
    new: State = {part: {} for part in ("used", *SAVED)}
    _adam(state, new, {name: slope for name, slope in slopes.items() if not is_hidden(name)}, rates[0], at)
    _muon(state, new, {name: slope for name, slope in slopes.items() if is_hidden(name)}, rates[1])
    kept = mx.minimum(average, (1 + at) / (10 + at))
    for name, value in new["now"].items():
        new["mean"][name] = kept * state["mean"][name] + (1 - kept) * value
        new["used"][name] = value.astype(state["used"][name].dtype)
    return new


def _adam(state: State, new: State, slopes: Parameters, rate: mx.array, at: mx.array) -> None:
    slopes = {name: slope.astype(mx.float32) for name, slope in slopes.items()}
    norm = mx.sqrt(sum((mx.square(slope).sum() for slope in slopes.values()), mx.array(0.0)))
    clip = mx.minimum(1.0, 1.0 / (norm + 1e-6))
    first_share, second_share = 1 - BETAS[0] ** at, 1 - BETAS[1] ** at
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


def _muon(state: State, new: State, slopes: Parameters, rate: mx.array) -> None:
    """Matrices of one shape, or of its transpose, are orthogonalised together."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, slope in slopes.items():
        alike.setdefault(tuple(sorted(slope.shape)), []).append(name)
    for names in alike.values():
        moves = []
        for name in names:
            slope = slopes[name]
            first = MOMENTUM * state["first"][name] + slope
            new["first"][name] = first
            move = (slope + MOMENTUM * first).astype(state["used"][name].dtype)  # Nesterov's
            moves.append(move if slope.shape[0] <= slope.shape[1] else move.T)
        for name, move in zip(names, orthogonal(mx.stack(moves)), strict=True):
            value = state["now"][name]
            rows, columns = value.shape
            move = (move if rows <= columns else move.T).astype(mx.float32)
            new["now"][name] = value - rate * sqrt(max(1.0, rows / columns)) * move


def orthogonal(x: mx.array) -> mx.array:
    """(n, a, b) with a ≤ b: each matrix with all its singular values near 1."""
    a, b, c = QUINTIC
    x = x / (mx.sqrt(mx.square(x.astype(mx.float32)).sum((1, 2), keepdims=True)) + 1e-7).astype(x.dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.swapaxes(1, 2)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x


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
