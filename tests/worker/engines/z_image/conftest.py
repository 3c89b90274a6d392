"""Z-Image's golden checkpoint, and an engine on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.z_image.engine import ZImageEngine
from tests.worker.engines.z_image.synthetic import GOLDEN, TINY, describe


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def tiny() -> Path:
    return TINY


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the golden checkpoint to break."""
    return describe(Path(shutil.copytree(TINY, tmp_path / "tiny")))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden checkpoint with its kiln.json."""
    return describe(Path(shutil.copytree(TINY, tmp_path_factory.mktemp("z-image") / "tiny")))


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> ZImageEngine:
    return ZImageEngine.load(checkpoint, dtype=mx.float32)
