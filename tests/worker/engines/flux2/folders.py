"""FLUX.2 checkpoints as workers have them, and jobs for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.manifest import digest
from pixelkiln.worker.engines.engine import Step
from pixelkiln.worker.engines.flux2.checkpoint import weight_files
from pixelkiln.worker.engines.flux2.engine import Flux2Engine

MODELS = {"distilled": "flux2-klein-4b", "base": "flux2-klein-base-4b"}


def described(folder: Path, recipe: str = "distilled") -> Path:
    """Write the kiln.json that an engine asks for, and what model_index.json says with it."""
    index = json.loads((folder / "model_index.json").read_bytes())
    (folder / "model_index.json").write_text(json.dumps({**index, "is_distilled": recipe == "distilled"}))
    facts = {"schema": 1, "model": MODELS[recipe], "recipe": recipe, "bits": 16, "source": "test"}
    facts |= {"revision": "0", "digest": digest(folder, weight_files(folder))}
    (folder / "kiln.json").write_text(json.dumps(facts))
    return folder


def spec(**fields: Any) -> RenderSpec:
    given = {
        "prompt": "a red fox",
        "model": "flux2-klein-4b",
        "width": 96,
        "height": 64,
        "seed": 0,
        "steps": 2,
    }
    return RenderSpec(**{**given, **fields})


def last(engine: Flux2Engine, job: RenderSpec, references: Sequence[Image.Image] = ()) -> Step:
    *_, step = engine.render(job, references)
    return step
