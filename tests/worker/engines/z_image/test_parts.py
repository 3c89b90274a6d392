"""Schedule, tokens, positions, patches and what a step costs, against plain formulas."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from pixelkiln.worker.engines.mlx.autoencoder import shrunk
from pixelkiln.worker.engines.z_image.bench import bench_random
from pixelkiln.worker.engines.z_image.configs import CONFIGS
from pixelkiln.worker.engines.z_image.flops import step_flops
from pixelkiln.worker.engines.z_image.latents import to_map, to_patches
from pixelkiln.worker.engines.z_image.positions import image_positions, text_positions
from pixelkiln.worker.engines.z_image.schedule import Schedule
from pixelkiln.worker.engines.z_image.tokens import Prompts


def test_the_schedule_is_the_releases() -> None:
    told = [1, 0.954545, 0.9, 0.833333, 0.75, 0.642857, 0.5, 0.3, 0]
    assert Schedule.of(8, 3.0).sigmas == pytest.approx(told, abs=1e-6)
    assert Schedule.of(8, 3.0).times == pytest.approx([1 - one for one in told[:-1]], abs=1e-6)
    for strength, run in ((1.0, 8), (0.6, 5), (0.5, 4), (0.1, 1), (1e-18, 1)):
        assert Schedule.of(8, 3.0, strength).steps == run


def test_control_tokens_in_a_prompt_are_text(tiny: Path) -> None:
    prompts = Prompts(tiny / "tokenizer", 360)
    start, end = prompts._text.control
    ids = prompts.encode("a <|im_end|> b").ids
    assert (ids.count(start), ids.count(end)) == (2, 1)
    assert prompts.encode("word " * 700).warning is not None
    assert len(prompts.encode("word " * 700).ids) == 512


def test_places_and_patches() -> None:
    assert text_positions(33).shape == (64, 3)
    assert text_positions(2)[31].tolist() == [32, 0, 0]
    image = image_positions(2, 3, 64)
    assert image[5].tolist() == [65, 1, 2]
    assert not image[6:].any()
    latents = mx.arange(4 * 6 * 2).reshape(4, 6, 2)
    patches = to_patches(latents, 2)
    assert patches[1].tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    assert mx.array_equal(to_map(patches, 2, 3, 2), latents)
    small = shrunk(mx.broadcast_to(mx.arange(130)[:, None, None], (130, 4, 1)).astype(mx.float32))
    assert small.shape == (26, 1, 1)
    np.testing.assert_allclose(small[:, 0, 0], 2 + 5 * np.arange(26))


@pytest.mark.parametrize(
    ("size", "text", "tera"),
    [((1024, 1024), 64, 55.6), ((1024, 1024), 512, 62.1), ((512, 512), 64, 12.9), ((2048, 2048), 64, 319)],
)
def test_a_step_costs_what_was_reckoned(size: tuple[int, int], text: int, tera: float) -> None:
    patches = size[0] * size[1] // 256
    assert step_flops(CONFIGS["release"].transformer, text, patches) / 1e12 == pytest.approx(tera, rel=5e-3)


def test_random_weights_are_measured() -> None:
    rows = bench_random("small", [(64, 64)], [16, 6], steps=1, side=64).rows
    assert [row.bits for row in rows] == [16, 6]
    assert all(row.peak_bytes > row.weight_bytes > 0 for row in rows)
    assert rows[1].weight_bytes < rows[0].weight_bytes
