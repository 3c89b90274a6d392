from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.worker.engines.flux2.engine import Flux2Engine
from tests.worker.engines.flux2.folders import last, spec


def measured(folder: Path, size: tuple[int, int], sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Bytes at most held while rendering, the text encoder read for its turn, and the estimate."""
    before = mx.get_active_memory()
    engine = Flux2Engine.load(folder, 0, mx.float32, feature_bytes=0)
    mx.clear_cache()
    engine.reset_peak()
    job = spec(width=size[0], height=size[1], references=["0" * 64] * len(sizes))
    last(engine, job, [Image.fromarray(np.zeros((h, w, 3), np.uint8)) for w, h in sizes])
    return engine.peak_bytes() - before, engine.bytes_needed(job)


@pytest.mark.parametrize("size", [(64, 64), (256, 192), (512, 512)])
def test_text_to_image_is_counted_closely(copied: Path, size: tuple[int, int]) -> None:
    peak, needed = measured(copied, size, [])
    assert peak <= needed <= 1.15 * peak


def test_references_as_large_as_they_are_taken_are_counted_closely(copied: Path) -> None:
    peak, needed = measured(copied, (128, 128), [(1024, 1024)])
    assert peak <= needed <= 1.15 * peak
