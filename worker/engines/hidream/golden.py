"""Replays recorded renders and measures how far this engine is from them.

A golden folder holds `cases.json` and, per case, what the model's public reference implementation saw and
made: token ids, positions, noise, the first prediction, some states and the picture. Each case brings its own
recipe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.engine import EngineError
from pixelkiln.worker.engines.hidream.conditions import conditions
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.layout import parse_boxes
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.patches import grid, to_patches, to_pixels
from pixelkiln.worker.engines.hidream.pipeline import Plan, denoise, predict, prepare
from pixelkiln.worker.engines.hidream.prefixes import PrefixCache
from pixelkiln.worker.engines.hidream.recipes import Recipe
from pixelkiln.worker.engines.hidream.references import Arranged, arrange
from pixelkiln.worker.engines.hidream.tokens import Prompts
from pixelkiln.worker.engines.hidream.vision import VisionTower
from pixelkiln.worker.engines.mlx.noise import Noise

X_PRED, Z, IMAGE = 1e-4, 5e-4, 1.0  # largest absolute errors that pass; IMAGE in levels of 255
CACHE_BYTES = 64 * 2**20


class GoldenError(EngineError):
    """A golden folder cannot be used, or a case's tokens or positions are not what was recorded."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case's largest absolute errors, or why it has none."""

    name: str
    x_pred: float | None = None
    z: float | None = None  # the worst of the recorded states
    image: float | None = None
    skipped: str | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every error is within its bound."""
        bounds = ((self.x_pred, X_PRED), (self.z, Z), (self.image, IMAGE))
        return all(value is not None and value <= bound for value, bound in bounds)


def replay(checkpoint: Path, golden: Path, names: Sequence[str] | None = None) -> list[CaseResult]:
    """Replay all or some cases in float32 with the recorded noise, over cached prefixes.

    Raises CheckpointError for the checkpoint and GoldenError for a folder or name that is not there.
    """
    cases = _cases(golden)
    chosen = list(cases) if names is None else names
    for name in chosen:
        if name not in cases:
            raise GoldenError(f"{golden} has no case {name!r}: it has {', '.join(cases)}")
    config = Config.read(checkpoint)
    bench = _Bench(
        golden,
        Model(checkpoint, config, mx.float32),
        Prompts(checkpoint, config),
        VisionTower(checkpoint, config, mx.float32),
    )
    return [bench.result(cases[name]) for name in chosen]


def recipe_of(case: Mapping[str, Any]) -> Recipe:
    """The recipe a case was recorded with. Raises KeyError or GoldenError where none can be made."""
    schedulers = {"default": "unipc", "flash": "flash", "flow_match": "flow_match"}
    name = case["scheduler_name"]
    if name not in schedulers:
        raise GoldenError(f"no scheduler {name!r}")
    listed = case.get("timesteps_list")
    return Recipe(
        schedulers[name],  # type: ignore[arg-type]
        len(listed) if listed else case["num_inference_steps"],
        tuple(listed) if listed else None,
        shift=case["shift"],
        guidance=case["guidance_scale"],
        noise_start=case.get("noise_scale_start", 8.0),
        noise_end=case.get("noise_scale_end", 8.0),
        noise_clip=case.get("noise_clip_std", 0.0),
    )


def _cases(golden: Path) -> dict[str, dict[str, Any]]:
    path = golden / "cases.json"
    try:
        return {case["name"]: case for case in json.loads(path.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GoldenError(f"{path} cannot be read: {error}") from error


class _Bench:
    def __init__(self, golden: Path, model: Model, prompts: Prompts, tower: VisionTower) -> None:
        self.golden, self.model, self.prompts, self.tower = golden, model, prompts, tower
        self.cache = PrefixCache(CACHE_BYTES)

    def result(self, case: Mapping[str, Any]) -> CaseResult:
        try:
            return self._measure(case)
        except (EngineError, SpecError, ValueError) as error:
            return CaseResult(case["name"], error=str(error))
        except KeyError as error:
            return CaseResult(case["name"], error=f"nothing recorded as {error}")

    def _measure(self, case: Mapping[str, Any]) -> CaseResult:
        record = _record(self.golden / f"{case['name']}.safetensors")
        recipe = recipe_of(case)
        size, pictures = (case["width"], case["height"]), None
        if case.get("refs"):
            arranged = self._arrange(case, size)
            size, pictures = arranged.size, conditions(self.tower, arranged.pictures)
        plan = prepare(self.model, self.prompts, self.cache, recipe, case["prompt"], grid(*size), pictures)
        noise = _recorded_noise(record)
        first = recipe.noise_start * noise(0)
        x_pred = []
        for label, branch in zip(("", "uncond."), plan.branches, strict=False):
            _check_equal(f"{label}input_ids", np.array(branch.ids), record)
            _check_equal(f"{label}position_ids", branch.positions, record)
            x_pred.append(_error(predict(self.model, plan, branch, first, 0), record[f"{label}x_pred"]))
        z, image = self._run(plan, noise, record)
        return CaseResult(case["name"], _worst(x_pred), z, image)

    def _arrange(self, case: Mapping[str, Any], size: tuple[int, int]) -> Arranged:
        boxes = case.get("layout_bboxes") or []
        pictures = [_picture(self.golden / name) for name in case["refs"]]
        boxes = parse_boxes(json.loads(boxes) if isinstance(boxes, str) else boxes)
        return arrange(pictures, size, boxes, case.get("keep_original_aspect", False))

    def _run(self, plan: Plan, noise: Noise, record: Mapping[str, mx.array]) -> tuple[float, float]:
        errors = [0.0]
        for i, state in enumerate(denoise(self.model, plan, noise)):
            mx.eval(state.z)
            if f"z.{i}" in record:
                errors.append(_error(state.z, record[f"z.{i}"]))
        image = to_pixels(state.z, *plan.grid).astype(np.int32) - np.array(record["image"]).astype(np.int32)
        return _worst(errors), float(np.abs(image).max())


def _record(path: Path) -> dict[str, mx.array]:
    try:
        record = mx.load(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise GoldenError(f"{path} cannot be read: {error}") from error
    assert isinstance(record, dict)
    return record


def _picture(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except OSError as error:
        raise GoldenError(f"{path} cannot be read: {error}") from error


def _recorded_noise(record: Mapping[str, mx.array]) -> Noise:
    def draw(step: int) -> mx.array:
        noise = record["step_noise"][step - 1] if step else to_patches(record["init_noise"][0])
        return noise.astype(mx.float32)

    return draw


def _check_equal(key: str, ours: Any, record: Mapping[str, mx.array]) -> None:
    recorded = np.array(record[key])
    if ours.shape != recorded.shape:
        raise GoldenError(f"{key} has shape {ours.shape}, recorded {recorded.shape}")
    if not np.array_equal(ours, recorded):
        at = np.argwhere(ours != recorded)[0].tolist()
        raise GoldenError(f"{key} differs from what was recorded, first at {at}")


def _error(ours: mx.array, recorded: mx.array) -> float:
    """The largest absolute difference; NaN where either has one."""
    if ours.shape != recorded.shape:
        raise GoldenError(f"a prediction has shape {ours.shape}, recorded {recorded.shape}")
    return float(np.abs(np.array(ours) - np.array(recorded)).max())


def _worst(errors: Sequence[float]) -> float:
    return float(np.max(errors))  # unlike max(), never loses a NaN
