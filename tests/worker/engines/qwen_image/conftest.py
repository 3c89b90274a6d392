"""Qwen-Image's golden checkpoint, and pictures small enough for a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx
import pytest

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.references import Fitted
from pixelkiln.worker.engines.qwen_image.engine import QwenImageEngine
from tests.worker.engines.qwen_image.synthetic import EDIT, OLDER, described

SMALL = Fitted(area=96 * 96, vision_area=112 * 112)


@pytest.fixture(scope="module", autouse=True)
def small_areas() -> Iterator[None]:
    """References become a hundredth of what the release makes of them."""
    with pytest.MonkeyPatch.context() as patch:
        for model in (EDIT, OLDER):
            patch.setitem(CATALOGUE, model, replace(CATALOGUE[model], references=SMALL))
        yield


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, small_areas: None) -> QwenImageEngine:
    return QwenImageEngine.load(described(tmp_path_factory.mktemp("qwen") / "tiny"), dtype=mx.float32)
