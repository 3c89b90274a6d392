from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.qwen_image.configs import CONFIGS
from pixelkiln.worker.engines.qwen_image.engine import QwenImageEngine
from pixelkiln.worker.engines.qwen_image.memory import table_bytes
from tests.worker.engines.held import held
from tests.worker.engines.qwen_image.synthetic import EDIT, described


def measured(folder: Path, references: int, **fields: Any) -> tuple[int, int]:
    """Bytes at most held while loading and rendering two steps, and the estimate."""
    before = held()
    engine = QwenImageEngine.load(folder, 0, mx.float32, feature_bytes=0, picture_bytes=0)
    mx.reset_peak_memory()
    given = {"prompt": "a", "model": EDIT, "seed": 1, "steps": 2, "references": ["0" * 64] * references}
    spec = RenderSpec(**{**given, **fields})
    list(engine.render(spec, [Image.new("RGB", (96, 96))] * references))
    found = mx.get_peak_memory() - before, engine.bytes_needed(spec)
    engine.close()
    return found


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 256, "height": 256, "guidance": 1.0},
        {"width": 384, "height": 256},
        {"width": 96, "height": 64, "prompt": "word " * 200, "guidance": 1.0},
    ],
)
def test_text_to_image_is_counted_closely(tmp_path: Path, fields: dict[str, Any]) -> None:
    peak, needed = measured(described(tmp_path / "tiny"), 0, **fields)
    assert peak <= needed <= 1.15 * peak


@pytest.mark.parametrize("references", [1, 3])
def test_edits_are_bounded(tmp_path: Path, references: int) -> None:
    peak, needed = measured(described(tmp_path / "tiny"), references, width=128, height=128)
    assert peak <= needed <= 2 * peak  # pictures of unknown shape count as the largest


def test_a_schedule_s_vectors_are_small_beside_the_weights_they_come_from() -> None:
    config = CONFIGS["release"]
    modulation = 2 * 6 * config.layers * config.width**2 * 2
    assert modulation == pytest.approx(13.6e9, rel=0.01)
    assert table_bytes(config, 40, 2) == pytest.approx(0.177e9, rel=0.01)
