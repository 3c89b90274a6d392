"""Replays recorded renders and measures how far this engine is from them.

A golden folder holds `cases.json` and, per case, what the model's public reference implementation saw and
made: token ids, positions, features, noise, the first prediction, some states and the picture. What is
measured comes from the job itself, prompt and pictures, with the recorded noise alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.references import Fitted
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.engine import EngineError
from pixelkiln.worker.engines.family import Case
from pixelkiln.worker.engines.mlx.goldens import (
    check_equal,
    judged,
    largest_error,
    read_cases,
    read_picture,
    read_record,
    worst,
)
from pixelkiln.worker.engines.qwen_image import checkpoint
from pixelkiln.worker.engines.qwen_image.conditions import Conditioner
from pixelkiln.worker.engines.qwen_image.config import Config
from pixelkiln.worker.engines.qwen_image.encoder import TextEncoder
from pixelkiln.worker.engines.qwen_image.lora import Fused, Lora
from pixelkiln.worker.engines.qwen_image.modulation import Opened, table
from pixelkiln.worker.engines.qwen_image.packing import grid, pack, unpack
from pixelkiln.worker.engines.qwen_image.pipeline import Plan, denoise, predict, prepare
from pixelkiln.worker.engines.qwen_image.references import Preprocessing, References
from pixelkiln.worker.engines.qwen_image.schedule import sigmas
from pixelkiln.worker.engines.qwen_image.tokens import Prompts
from pixelkiln.worker.engines.qwen_image.transformer import Transformer

# Largest absolute errors that pass; image in levels.
BOUNDS = {"features": 5e-5, "references": 1e-4, "prediction": 1e-4, "latents": 1e-4, "image": 1.0}


def replay(folder: Path, golden: Path, names: Sequence[str] | None = None) -> list[Case]:
    """Replay all or some cases in float32. Raises CheckpointError and GoldenError."""
    cases = read_cases(golden, names)
    bench = _Bench(folder, golden)
    return [bench.result(case) for case in cases]


class _Bench:
    def __init__(self, folder: Path, golden: Path) -> None:
        checkpoint.checked(folder)
        self.folder, self.golden = folder, golden
        self.config = Config.read(folder)
        self.prompts = Prompts(folder, self.config)
        stored = checkpoint.tensors(folder, checkpoint.ENCODER)
        self.encoder = TextEncoder(folder, stored, self.config, mx.float32, keep=True)
        self.autoencoder = checkpoint.autoencoder(folder, self.config, mx.float32)

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
        config = replace(
            self.config,
            transformer=replace(self.config.transformer, **case.get("transformer", {})),
            schedule=_schedule(self.config, case.get("scheduler", {})),
        )
        areas = Fitted(area=case.get("vae_area", 0), vision_area=case.get("condition_area", 0))
        references = References(config.vision, Preprocessing.read(self.folder, config.vision), areas)
        conditioner = Conditioner(self.prompts, references, self.encoder, self.autoencoder)
        pictures = [read_picture(self.golden / name) for name in case["references"]]
        seen = conditioner.see(pictures) if pictures else None
        guided = case["true_cfg_scale"] > 1 and case["negative_prompt"] is not None
        texts = [case["prompt"], *([case["negative_prompt"]] if guided else [])]
        tokens = seen.tokens if seen else ()
        encoded = [self.prompts.encode(text, bool(pictures), tokens) for text in texts]
        for label, one in zip(("", "uncond."), encoded, strict=False):
            check_equal(f"{label}input_ids", np.array(one.ids), record)
            check_equal(f"{label}position_ids", one.positions, record)
        features = conditioner.features(encoded, seen)
        errors = {
            "features": worst(
                [
                    largest_error(ours, record[f"{label}prompt_embeds"])
                    for label, ours in zip(("", "uncond."), features, strict=False)
                ]
            )
        }
        if seen:
            latents = mx.concatenate([one for one, _ in seen.latents])
            errors["references"] = largest_error(latents, record["ref_latents"])
        size = grid(case["width"], case["height"])
        levels = sigmas(config.schedule, case["steps"], size[0] * size[1])
        opened = self._opened(config, case.get("lora"))
        model = checkpoint.transformer(config, opened())
        plan = prepare(
            model,
            features,
            size,
            seen.latents if seen else (),
            levels,
            case["true_cfg_scale"],
            table(opened, config.transformer, levels[:-1]),
        )
        errors |= self._run(model, plan, record)
        return judged(case["name"], errors, {name: BOUNDS[name] for name in errors})

    def _opened(self, config: Config, lora: str | None) -> Opened:
        stored = checkpoint.tensors(self.folder, checkpoint.TRANSFORMER)
        if lora is None:
            return lambda: Weights(self.folder, stored, mx.float32)
        fused = Lora.read(self.golden / lora, stored)
        return lambda: Fused(self.folder, stored, mx.float32, fused)

    def _run(self, model: Transformer, plan: Plan, record: Mapping[str, mx.array]) -> dict[str, float]:
        z = pack(record["noise"].astype(mx.float32))
        predictions = [
            largest_error(predict(model, plan, branch, z, 0), record[f"{label}pred0"])
            for label, branch in zip(("", "uncond."), plan.branches, strict=False)
        ]
        latents = [0.0]
        for i, state in enumerate(denoise(model, plan, z)):
            mx.eval(state.z)
            if f"z.{i}" in record:
                latents.append(largest_error(state.z, record[f"z.{i}"]))
        image = np.array(self.autoencoder.decode(unpack(state.z, plan.grid))).astype(np.int32)
        off = np.abs(image - np.array(record["image"]).astype(np.int32)).max()
        return {"prediction": worst(predictions), "latents": worst(latents), "image": float(off)}


def _schedule(config: Config, case: Mapping[str, Any]) -> Any:
    known = {"base_shift": "base_shift", "max_shift": "max_shift", "shift_terminal": "terminal"}
    return replace(config.schedule, **{known[name]: value for name, value in case.items()})
