"""Replays recorded renders and measures how far this engine is from them.

A golden folder holds `cases.json` and, per case, what the model's public reference implementation saw and
made: token ids, positions, noise, the first prediction, some states and the picture. Each case brings its own
recipe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.engine import EngineError
from pixelkiln.worker.engines.family import Case, GoldenError
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
from pixelkiln.worker.engines.mlx.goldens import (
    check_equal,
    judged,
    largest_error,
    read_cases,
    read_picture,
    read_record,
    worst,
)
from pixelkiln.worker.engines.mlx.noise import Noise

BOUNDS = {"x_pred": 1e-4, "z": 5e-4, "image": 1.0}  # largest absolute errors that pass; image in levels
CACHE_BYTES = 64 * 2**20


def replay(checkpoint: Path, golden: Path, names: Sequence[str] | None = None) -> list[Case]:
    """Replay all or some cases in float32 with the recorded noise, over cached prefixes.

    Raises CheckpointError for the checkpoint and GoldenError for a folder or name that is not there.
    """
    chosen = read_cases(golden, names)
    config = Config.read(checkpoint)
    bench = _Bench(
        golden,
        Model(checkpoint, config, mx.float32),
        Prompts(checkpoint, config),
        VisionTower(checkpoint, config, mx.float32),
    )
    return [bench.result(case) for case in chosen]


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


class _Bench:
    def __init__(self, golden: Path, model: Model, prompts: Prompts, tower: VisionTower) -> None:
        self.golden, self.model, self.prompts, self.tower = golden, model, prompts, tower
        self.cache = PrefixCache(CACHE_BYTES)

    def result(self, case: Mapping[str, Any]) -> Case:
        try:
            return self._measure(case)
        except (EngineError, SpecError, ValueError) as error:
            return Case(case["name"], False, fault=str(error))
        except KeyError as error:
            return Case(case["name"], False, fault=f"nothing recorded as {error}")
        except Exception as error:  # a record may hold anything
            return Case(case["name"], False, fault=f"{type(error).__name__}: {error}")

    def _measure(self, case: Mapping[str, Any]) -> Case:
        record = read_record(self.golden / f"{case['name']}.safetensors")
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
            check_equal(f"{label}input_ids", np.array(branch.ids), record)
            check_equal(f"{label}position_ids", branch.positions, record)
            found = predict(self.model, plan, branch, first, 0)
            x_pred.append(largest_error(found, record[f"{label}x_pred"]))
        z, image = self._run(plan, noise, record)
        return judged(case["name"], {"x_pred": worst(x_pred), "z": z, "image": image}, BOUNDS)

    def _arrange(self, case: Mapping[str, Any], size: tuple[int, int]) -> Arranged:
        boxes = case.get("layout_bboxes") or []
        pictures = [read_picture(self.golden / name) for name in case["refs"]]
        boxes = parse_boxes(json.loads(boxes) if isinstance(boxes, str) else boxes)
        return arrange(pictures, size, boxes, case.get("keep_original_aspect", False))

    def _run(self, plan: Plan, noise: Noise, record: Mapping[str, mx.array]) -> tuple[float, float]:
        errors = [0.0]
        for i, state in enumerate(denoise(self.model, plan, noise)):
            mx.eval(state.z)
            if f"z.{i}" in record:
                errors.append(largest_error(state.z, record[f"z.{i}"]))
        image = to_pixels(state.z, *plan.grid).astype(np.int32) - np.array(record["image"]).astype(np.int32)
        return worst(errors), float(np.abs(image).max())


def _recorded_noise(record: Mapping[str, mx.array]) -> Noise:
    def draw(step: int) -> mx.array:
        noise = record["step_noise"][step - 1] if step else to_patches(record["init_noise"][0])
        return noise.astype(mx.float32)

    return draw
