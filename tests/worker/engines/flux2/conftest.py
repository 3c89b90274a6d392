"""FLUX.2's golden checkpoint, as a worker has one, and copies to break."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.manifest import digest
from pixelkiln.worker.engines.engine import Step
from pixelkiln.worker.engines.flux2.checkpoint import weight_files
from pixelkiln.worker.engines.flux2.engine import Flux2Engine
from pixelkiln.worker.engines.flux2.model import Config, Model

GOLDEN = Path(__file__).parents[3] / "golden" / "flux2"
MODELS = {"distilled": "flux2-klein-4b", "base": "flux2-klein-base-4b"}


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def tiny() -> Path:
    return GOLDEN / "tiny-flux2-klein"


@pytest.fixture(scope="session")
def model(tiny: Path) -> Model:
    return Model(tiny, Config.read(tiny), mx.float32)


def described(folder: Path, recipe: str = "distilled") -> Path:
    """Write the kiln.json that an engine asks for, and what model_index.json says with it."""
    index = json.loads((folder / "model_index.json").read_bytes())
    (folder / "model_index.json").write_text(json.dumps({**index, "is_distilled": recipe == "distilled"}))
    facts = {"schema": 1, "model": MODELS[recipe], "recipe": recipe, "bits": 16, "source": "test"}
    facts |= {"revision": "0", "digest": digest(folder, weight_files(folder))}
    (folder / "kiln.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the golden checkpoint to break."""
    return described(Path(shutil.copytree(tiny, tmp_path / "tiny")))


@pytest.fixture(scope="session")
def checkpoint(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The golden checkpoint as that of either model."""

    def make(recipe: str = "distilled") -> Path:
        return described(Path(shutil.copytree(tiny, tmp_path_factory.mktemp(recipe) / "tiny")), recipe)

    return make


@pytest.fixture(scope="module")
def engine(checkpoint: Callable[[str], Path]) -> Flux2Engine:
    return Flux2Engine.load(checkpoint("distilled"), dtype=mx.float32)


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


def last(engine: Flux2Engine, job: RenderSpec, references: Any = ()) -> Step:
    *_, step = engine.render(job, references)
    return step
