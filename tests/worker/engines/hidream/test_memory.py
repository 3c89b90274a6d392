from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs.spec import Box, RenderSpec
from pixelkiln.worker.engines.hidream.checkpoint import tensors
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.configs import CONFIGS
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.engines.hidream.memory import Load, prefix_bytes, weights_at, working_bytes
from pixelkiln.worker.engines.mlx.limits import leave_room, limits
from pixelkiln.worker.engines.mlx.memory import Backend, weight_bytes

WIDE = {"hidden_size": 128, "intermediate_size": 768, "num_attention_heads": 8, "head_dim": 32}
WIDE |= {"rope_scaling": {"mrope_section": [6, 5, 5]}}


def measured(folder: Path, spec: RenderSpec, references: list[Image.Image]) -> tuple[int, int]:
    """Bytes at most held while loading and running the prefix and two steps, and the estimate."""
    before = mx.get_active_memory()
    engine = HiDreamEngine.load(folder, dtype=mx.float32, prefix_cache_bytes=0)
    mx.clear_cache()
    mx.reset_peak_memory()
    steps = engine.render(spec, references)
    for _ in range(3):
        next(steps)
    return mx.get_peak_memory() - before, engine.bytes_needed(spec)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ({}, {"width": 512, "height": 512}),
        ({}, {"width": 96, "height": 64, "prompt": "word " * 200}),
        (
            {"num_hidden_layers": 2},
            {"width": 64, "height": 64, "prompt": "word " * 800},
        ),  # as long as a prompt may be
        (WIDE, {"width": 512, "height": 256}),
        (WIDE, {"width": 320, "height": 320, "prompt": "word " * 60}),
    ],
)
def test_text_to_image_is_counted_closely(
    random_checkpoint: Callable[..., Path], text: dict[str, Any], fields: dict[str, Any]
) -> None:
    peak, needed = measured(random_checkpoint(**text), RenderSpec(**{"prompt": "a", "seed": 1, **fields}), [])
    assert peak <= needed <= 1.35 * peak


@pytest.mark.parametrize("bits", [16, 6])
def test_a_long_prompt_moves_the_releases_peak_little(bits: int) -> None:
    """By count, of 1024 x 1024 on a GPU: prompts of 3 and of 2,000 tokens, with their template."""
    text, gpu = CONFIGS["release"], Backend(fused=True, waiting=16)
    short, long = (
        weights_at(text, bits)
        + prefix_bytes(text, load, 2)
        + working_bytes(Config(text, {}, 0, 0, 0), load, 2, 0, gpu)
        for load in (Load(prompt, 1024) for prompt in (15, 2012))
    )
    assert long <= 1.05 * short


def test_prompts_of_many_lengths_stay_within_the_budget(checkpoint: Callable[[str], Path]) -> None:
    prompts = ["\U0001f98a" * length for length in (60, 260, 90, 230, 120, 200, 160)]  # four tokens each
    specs = [RenderSpec(prompt=prompt, seed=1, width=64, height=64) for prompt in prompts]
    folder = checkpoint("dev")
    engine = HiDreamEngine.load(folder, dtype=mx.float32, prefix_cache_bytes=0)
    budget = max(map(engine.bytes_needed, specs))
    engine.close()
    mx.clear_cache()
    before = mx.get_active_memory()  # of other tests' models
    engine = HiDreamEngine.load(folder, mx.float32, prefix_cache_bytes=0)
    with limits(budget):
        for spec in specs:
            leave_room(budget - engine.bytes_needed(spec))
            steps = engine.render(spec)
            for _ in range(3):
                next(steps)
                assert mx.get_active_memory() - before + mx.get_cache_memory() <= budget
    engine.close()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_references_are_bounded(random_checkpoint: Callable[..., Path], count: int) -> None:
    pictures = [Image.fromarray(np.zeros((300, 400, 3), np.uint8))] * count
    boxes = [Box(x1=0.1, x2=0.5, y1=0.1, y2=0.5)] if count == 2 else []
    spec = RenderSpec(prompt="a", seed=1, width=320, height=256, references=["0" * 64] * count, layout=boxes)
    peak, needed = measured(random_checkpoint(**WIDE), spec, pictures)
    assert peak <= needed <= 2.5 * peak


def test_a_kept_aspect_counts_as_the_largest_picture(engine: HiDreamEngine) -> None:
    fields: dict[str, Any] = {"prompt": "a", "seed": 1, "width": 64, "height": 64, "references": ["0" * 64]}
    kept = engine.bytes_needed(RenderSpec(**fields, keep_aspect=True))
    largest = engine.bytes_needed(RenderSpec(**{**fields, "width": 2048, "height": 2048}))
    assert kept == largest > 5 * engine.bytes_needed(RenderSpec(**fields))


def test_weights_by_bits_agree_with_the_files(tiny: Path) -> None:
    stored = tensors(tiny)
    used = [one for name, one in stored.items() if not name.startswith(("lm_head.", "model.visual."))]
    counted = weights_at(Config.read(tiny).text, 16)
    assert counted == pytest.approx(weight_bytes(used, 2), rel=0.01)  # norms and biases are not counted
    assert weights_at(Config.read(tiny).text, 4) < counted


def test_guidance_needs_more(checkpoint: Callable[[str], Path]) -> None:
    spec = RenderSpec(prompt="a", seed=1, width=256, height=256)
    dev, full = (HiDreamEngine.load(checkpoint(recipe), dtype=mx.float32) for recipe in ("dev", "full"))
    assert full.bytes_needed(spec) > dev.bytes_needed(spec)
