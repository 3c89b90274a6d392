from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.worker.engines.checkpoints.random_weights import RandomWeights
from pixelkiln.worker.engines.flux2.config import TransformerConfig
from pixelkiln.worker.engines.flux2.configs import CONFIGS
from pixelkiln.worker.engines.flux2.engine import Flux2Engine
from pixelkiln.worker.engines.flux2.memory import SLACK, block_bytes
from pixelkiln.worker.engines.flux2.pipeline import denoise, prepare
from pixelkiln.worker.engines.flux2.quantize import widths
from pixelkiln.worker.engines.flux2.recipes import RECIPES
from pixelkiln.worker.engines.flux2.tokens import LENGTH
from pixelkiln.worker.engines.flux2.transformer import Transformer
from pixelkiln.worker.engines.mlx.memory import Backend
from pixelkiln.worker.engines.mlx.noise import seeded
from tests.worker.engines.flux2.folders import last, spec
from tests.worker.engines.held import held


def measured(folder: Path, size: tuple[int, int], sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Bytes at most held while rendering, the text encoder read for its turn, and the estimate."""
    before = held()
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


SMALL = CONFIGS["small"]
WIDE = replace(SMALL, heads=4, head_size=64, axes=(16,) * 4, inner=768, single_layers=4)


@pytest.mark.parametrize(
    ("config", "grid"), [(SMALL, (32, 32)), (WIDE, (32, 16)), (replace(WIDE, inner=1536), (16, 16))]
)
def test_blocks_are_counted_closely(config: TransformerConfig, grid: tuple[int, int]) -> None:
    """Geometries in which the transformer, and not the VAE, is the widest."""
    model = Transformer(RandomWeights(widths(16), mx.float32), config)
    features = mx.random.normal((LENGTH, config.features), key=mx.random.key(0))
    plan = prepare(model, RECIPES["distilled"], grid, [features])
    mx.eval(plan.texts, plan.turn.cos, plan.turn.sin)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    for _, state in zip(
        range(2), denoise(model, plan, seeded(0, (plan.tokens, config.channels))), strict=False
    ):
        mx.eval(state.z, state.clean)
    peak = mx.get_peak_memory() - before
    latents = 5 * plan.tokens * config.channels * 4
    needed = SLACK * (latents + block_bytes(config, LENGTH + plan.tokens, 4, Backend(fused=False, waiting=4)))
    assert peak <= needed <= 1.15 * peak
