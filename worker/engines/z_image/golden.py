"""Replays recorded renders and measures how far this engine is from them.

A golden folder holds `cases.json` and, per case, what the model's public reference implementation saw and
made: token ids, positions, text features, noise, the first prediction, states and the picture. Each case
brings its own schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.checkpoints.files import real, whole
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
from pixelkiln.worker.engines.mlx.noise import Noise
from pixelkiln.worker.engines.z_image.config import Config
from pixelkiln.worker.engines.z_image.latents import to_patches
from pixelkiln.worker.engines.z_image.model import Model
from pixelkiln.worker.engines.z_image.pipeline import denoise, predict, prepare, start
from pixelkiln.worker.engines.z_image.positions import image_positions, text_positions
from pixelkiln.worker.engines.z_image.references import fitted
from pixelkiln.worker.engines.z_image.schedule import Schedule
from pixelkiln.worker.engines.z_image.tokens import Prompts

# Largest absolute errors that pass; image in levels. A prediction is by our own schedule.
BOUNDS = {"features": 2e-5, "references": 2e-5, "prediction": 1e-4, "latents": 3e-4, "image": 1.0}
MOST_SIDE = 8192  # pixels


def replay(checkpoint: Path, golden: Path, names: Sequence[str] | None = None) -> list[Case]:
    """Replay all or some cases in float32 with the recorded noise.

    Raises CheckpointError for the checkpoint and GoldenError for a folder or name that is not there.
    """
    chosen = read_cases(golden, names)
    config = Config.read(checkpoint)
    model = Model(checkpoint, config, mx.float32)
    prompts = Prompts(checkpoint / "tokenizer", config.text.vocab_size)
    return [_result(golden, model, prompts, case) for case in chosen]


def _result(golden: Path, model: Model, prompts: Prompts, case: Mapping[str, Any]) -> Case:
    try:
        return _measure(golden, model, prompts, case)
    except (EngineError, SpecError, ValueError) as error:
        return Case(case["name"], False, fault=str(error))
    except KeyError as error:
        return Case(case["name"], False, fault=f"nothing recorded as {error}")
    except Exception as error:  # a record may hold anything
        return Case(case["name"], False, fault=f"{type(error).__name__}: {error}")


def _measure(golden: Path, model: Model, prompts: Prompts, case: Mapping[str, Any]) -> Case:
    record = read_record(golden / f"{case['name']}.safetensors")
    size = (whole(case, "width", MOST_SIDE), whole(case, "height", MOST_SIDE))
    columns, rows = (side // model.config.grid for side in size)
    schedule = Schedule.of(whole(case, "steps", 1000), real(case, "shift", 1e3), case.get("strength"))
    ids = prompts.encode(case["prompt"]).ids
    text = model.text(ids)
    check_equal("input_ids", np.array(ids), record)
    places = record["cap_positions"][: len(text)]  # more were recorded than there are tokens and pads
    check_equal("cap_positions", text_positions(len(ids)), {"cap_positions": places})
    check_equal("image_positions", image_positions(rows, columns, len(text)), record)
    errors = {"features": largest_error(model.features(ids), record["prompt_embeds"])}
    clean = None
    if case.get("refs"):
        clean = model.encode(fitted(read_picture(golden / case["refs"][0]), size))
        errors["references"] = largest_error(clean, _patches(model, record, "image_latents"))
    plan = prepare(model.transformer, schedule, (rows, columns), text, len(ids), clean)
    noise = _recorded_noise(model, record)
    found = predict(model.transformer, plan, start(plan, noise), 0)
    errors["prediction"] = largest_error(found, _patches(model, record, "prediction"))
    latents = []
    for i, state in enumerate(denoise(model.transformer, plan, noise)):
        mx.eval(state.z)
        if f"latents.{i}" in record:
            latents.append(largest_error(state.z, _patches(model, record, f"latents.{i}")))
    errors["latents"] = worst(latents)
    image = model.decode(state.z, plan.grid).astype(np.int32) - np.array(record["image"]).astype(np.int32)
    errors["image"] = float(np.abs(image).max())
    return judged(case["name"], errors, {name: BOUNDS[name] for name in errors})


def _patches(model: Model, record: Mapping[str, mx.array], key: str) -> mx.array:
    latents = record[key].astype(mx.float32)
    return to_patches(latents.transpose(1, 2, 0), model.config.transformer.patch)


def _recorded_noise(model: Model, record: Mapping[str, mx.array]) -> Noise:
    return lambda step: _patches(model, record, "noise")
