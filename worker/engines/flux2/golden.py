"""Replays recorded renders and measures how far this engine is from them.

A golden folder holds `cases.json` and, per case, what the model's public reference implementation saw and
made: token ids, positions, noise, the first prediction, some states and the picture. Everything is computed
from the job itself, its prompt and pictures, with the recorded noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.engine import EngineError
from pixelkiln.worker.engines.family import Case, GoldenError
from pixelkiln.worker.engines.flux2.checkpoint import TOKENIZER
from pixelkiln.worker.engines.flux2.conditions import encoded
from pixelkiln.worker.engines.flux2.model import Config, Model
from pixelkiln.worker.engines.flux2.pipeline import Plan, References, denoise, prepare, velocities
from pixelkiln.worker.engines.flux2.positions import Grid, picture_positions
from pixelkiln.worker.engines.flux2.recipes import Recipe
from pixelkiln.worker.engines.flux2.references import prepared
from pixelkiln.worker.engines.flux2.schedule import TOKEN
from pixelkiln.worker.engines.flux2.text import features
from pixelkiln.worker.engines.flux2.tokens import LENGTH, Prompts
from pixelkiln.worker.engines.mlx.goldens import (
    check_equal,
    judged,
    largest_error,
    read_cases,
    read_picture,
    read_record,
    worst,
)

# Largest absolute errors that pass; image in levels.
BOUNDS = {"features": 2e-4, "references": 5e-4, "prediction": 1e-4, "latents": 2e-4, "image": 1.0}
SIGMA = 1e-6
DIFFERING = 1e-3  # share of a picture's values that may be off by a level

Record = Mapping[str, mx.array]


def replay(checkpoint: Path, golden: Path, names: Sequence[str] | None = None) -> list[Case]:
    """Replay all or some cases in float32 with the recorded noise.

    What a case has not recorded is not compared, but for its first prediction. Raises CheckpointError for the
    checkpoint and GoldenError for a folder or name that is not there.
    """
    chosen = read_cases(golden, names)
    config = Config.read(checkpoint)
    prompts = Prompts(checkpoint / TOKENIZER, config.text.vocab_size)
    bench = _Bench(golden, Model(checkpoint, config, mx.float32), prompts)
    return [bench.result(case) for case in chosen]


class _Bench:
    def __init__(self, golden: Path, model: Model, prompts: Prompts) -> None:
        self.golden, self.model, self.prompts = golden, model, prompts

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
        recipe = Recipe(case["is_distilled"], case["num_inference_steps"], case["guidance_scale"])
        grid = (case["height"] // TOKEN, case["width"] // TOKEN)
        errors: dict[str, float] = {}
        texts = self._texts([case["prompt"], *([""] if recipe.guided else [])], record, errors)
        references = self._references(case, grid, record, errors)
        plan = prepare(self.model.transformer, recipe, grid, texts, references)
        _check_schedule(plan, record)
        found = velocities(self.model.transformer, plan, _noise(record), 0)
        labels = ["", "uncond."][: len(plan.texts)]
        errors["prediction"] = worst(
            [
                largest_error(one, record[f"{label}velocity0"])
                for label, one in zip(labels, found, strict=True)
            ]
        )
        fault = self._run(plan, record, errors)
        judgement = judged(case["name"], errors, {name: BOUNDS[name] for name in errors})
        return judgement if fault is None else replace(judgement, ok=False, fault=fault)

    def _texts(self, prompts: Sequence[str], record: Record, errors: dict[str, float]) -> list[mx.array]:
        made, off = [], []
        for label, prompt in zip(("", "uncond."), prompts, strict=False):
            tokens = self.prompts.encode(prompt)
            check_equal(f"{label}input_ids", np.array(tokens.ids), record)
            check_equal(f"{label}attention_mask", (np.arange(LENGTH) < tokens.real).astype(int), record)
            made.append(features(self.model.text, tokens))
            if f"{label}text_features" in record:
                rows = record.get("text_features.rows", mx.arange(LENGTH))
                off.append(largest_error(made[-1][rows], record[f"{label}text_features"]))
        if off:
            errors["features"] = worst(off)
        return made

    def _references(
        self, case: Mapping[str, Any], grid: Grid, record: Record, errors: dict[str, float]
    ) -> References | None:
        pictures = [prepared(read_picture(self.golden / name)) for name in case["references"]]
        references = encoded(self.model.vae, pictures) if pictures else None
        check_equal("img_ids", picture_positions(grid, references.grids if references else ()), record)
        if references is not None:
            errors["references"] = largest_error(references.latents, record["reference_latents"])
        return references

    def _run(self, plan: Plan, record: Record, errors: dict[str, float]) -> str | None:
        off = []
        for i, state in enumerate(denoise(self.model.transformer, plan, lambda _: _noise(record)), 1):
            mx.eval(state.z)
            if f"latents.{i}" in record:
                off.append(largest_error(state.z, record[f"latents.{i}"]))
        if off:
            errors["latents"] = worst(off)
        if "image" in record:
            levels = self.model.vae.decode(state.z, plan.grid).astype(int) - np.array(record["image"])
            errors["image"] = float(np.abs(levels).max())
            if (share := np.count_nonzero(levels) / levels.size) > DIFFERING:
                return f"image: {share:.2%} of its values differ"
        return None


def _noise(record: Record) -> mx.array:
    """(tokens, channels): the recorded noise's places, row by row."""
    return record["init_noise"].astype(mx.float32).flatten(1).T


def _check_schedule(plan: Plan, record: Record) -> None:
    off = np.abs(np.array(plan.schedule.sigmas) - np.array(record["sigmas"], np.float64)).max()
    if not off <= SIGMA:
        raise GoldenError(f"sigmas are off by {off:.1e}")
