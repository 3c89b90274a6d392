"""FLUX.2's golden checkpoint, as a worker has one, and copies to break."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.flux2.engine import Flux2Engine
from pixelkiln.worker.engines.flux2.model import Config, Model
from tests.worker.engines.flux2.folders import described

GOLDEN = Path(__file__).parents[3] / "golden" / "flux2"


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def tiny() -> Path:
    return GOLDEN / "tiny-flux2-klein"


@pytest.fixture(scope="session")
def model(tiny: Path) -> Model:
    return Model(tiny, Config.read(tiny), mx.float32)


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
