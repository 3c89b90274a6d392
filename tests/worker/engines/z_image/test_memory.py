"""Estimates against what was held, in float32 on a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.z_image.config import Config
from pixelkiln.worker.engines.z_image.configs import CONFIGS
from pixelkiln.worker.engines.z_image.engine import ZImageEngine
from tests.worker.engines.held import held
from tests.worker.engines.z_image.synthetic import write

SMALL = replace(CONFIGS["small"], text=replace(CONFIGS["small"].text, vocab_size=512))
WIDE_TEXT = replace(
    SMALL.text, hidden_size=256, intermediate_size=1024, num_attention_heads=8, head_dim=32, vocab_size=512
)
WIDE = replace(SMALL, text=WIDE_TEXT, transformer=replace(SMALL.transformer, text=256))
DEEP = replace(SMALL, transformer=replace(SMALL.transformer, dim=384, heads=6, layers=8, refiners=2))


def spec(**fields: Any) -> RenderSpec:
    return RenderSpec(**{"prompt": "a", "seed": 1, "model": "z-image-turbo", "steps": 1, **fields})


def measured(folder: Path, job: RenderSpec, budget: int | None = 0) -> tuple[int, int]:
    """Bytes at most held while loading and rendering, and the estimate."""
    before = held()
    engine = ZImageEngine.load(folder, budget, mx.float32, feature_bytes=0)
    mx.clear_cache()
    mx.reset_peak_memory()
    pictures = [Image.new("RGB", (job.width, job.height), "red")] * len(job.references)
    for step in engine.render(job, pictures):
        if step.preview is not None:
            step.preview()
    peak, needed = mx.get_peak_memory() - before, engine.bytes_needed(job)
    engine.close()
    return peak, needed


PICTURE = {"references": ["0" * 64], "strength": 0.5}


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (SMALL, {"width": 256, "height": 512, "prompt": "word " * 400}),
        (WIDE, {"width": 64, "height": 64, "prompt": "word " * 400}),
        (DEEP, {"width": 384, "height": 384}),
        (SMALL, {"width": 512, "height": 384, **PICTURE}),
        (SMALL, {"width": 1024, "height": 256}),
    ],
)
def test_a_render_is_counted_closely(tmp_path: Path, config: Config, fields: dict[str, Any]) -> None:
    peak, needed = measured(write(tmp_path / "random", config), spec(**fields))
    assert peak <= needed <= 1.2 * peak  # fewer buffers wait on a loaded CPU
