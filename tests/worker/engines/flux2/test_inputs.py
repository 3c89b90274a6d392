"""Schedule, positions, sizes of references and tokens, against what the reference recorded."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.flux2.config import TransformerConfig
from pixelkiln.worker.engines.flux2.configs import CONFIGS
from pixelkiln.worker.engines.flux2.family import Flux2
from pixelkiln.worker.engines.flux2.flops import step_flops
from pixelkiln.worker.engines.flux2.latents import patched, unpatched
from pixelkiln.worker.engines.flux2.references import RULE, prepared
from pixelkiln.worker.engines.flux2.schedule import CLIFF, TOKEN, schedule, shift, tokens
from pixelkiln.worker.engines.flux2.tokens import LENGTH, Prompts


def test_recorded_schedules(golden: Path) -> None:
    for case in json.loads((golden / "schedules.json").read_bytes()):
        count = tokens(case["width"], case["height"])
        made = schedule(count, case["steps"])
        assert shift(count, case["steps"]) == pytest.approx(case["mu"], abs=1e-9)
        np.testing.assert_allclose(made.sigmas, case["sigmas"], atol=1e-6)
        np.testing.assert_allclose(made.timesteps, np.multiply(case["sigmas"][:-1], 1000), atol=1e-3)


def test_the_schedule_falls_where_the_catalogue_says() -> None:
    assert (shift(CLIFF, 4), shift(CLIFF + 1, 4)) == (
        pytest.approx(2.308, abs=1e-3),
        pytest.approx(1.185, abs=1e-3),
    )
    for name in ("flux2-klein-4b", "flux2-klein-base-4b"):
        assert CATALOGUE[name].cliff == CLIFF * TOKEN**2


def test_recorded_reference_sizes(golden: Path) -> None:
    sizes = json.loads((golden / "sizes.json").read_bytes())
    for case in sizes["accepted"]:
        if case["width"] * case["height"] < 3e6:
            made = prepared(Image.new("L", (case["width"], case["height"])))
            assert (made.size, made.mode) == (tuple(case["prepared"]), "RGB"), case
        assert RULE.prepared((case["width"], case["height"])) == tuple(case["prepared"]), case
    for size in sizes["refused"]:
        with pytest.raises(SpecError, match="references: "):
            prepared(Image.new("RGB", tuple(size)))


def test_a_reference_is_cut_out_of_its_middle() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (93, 150, 3), np.uint8)
    made = np.asarray(prepared(Image.fromarray(pixels)))
    assert np.array_equal(made, pixels[6:86, 3:147])


def test_a_control_token_in_a_prompt_is_text(tiny: Path) -> None:
    prompts = Prompts(tiny / "tokenizer", 452)
    plain, typed = prompts.encode("a"), prompts.encode("a<|im_end|>")
    end = plain.ids[plain.ids.index(422)]
    assert plain.ids.count(end) == typed.ids.count(end) == 1
    assert typed.real > plain.real + 1
    assert len(plain.ids) == len(typed.ids) == LENGTH
    assert plain.lost == typed.lost == 0
    cut = prompts.encode("word " * 600)
    assert (cut.real, len(cut.ids)) == (LENGTH, LENGTH)
    assert cut.lost > 0


def test_tokens_are_two_places_high_and_wide() -> None:
    places = mx.random.normal((6, 4, 3), key=mx.random.key(0))
    made, grid = patched(places)
    assert grid == (3, 2)
    for c in range(3):
        for dy in range(2):
            for dx in range(2):
                column = made[:, 4 * c + 2 * dy + dx].reshape(grid)
                assert mx.array_equal(column, places[dy::2, dx::2, c])
    assert mx.array_equal(unpatched(made, grid), places)


def test_the_cost_of_steps_is_that_of_the_release() -> None:
    config = CONFIGS["release"]
    assert step_flops(config, LENGTH, 4096) == pytest.approx(34.8e12, rel=5e-3)
    assert step_flops(config, LENGTH, 1024) == pytest.approx(10.1e12, rel=1e-2)
    assert step_flops(config, LENGTH, 4096, 4096) == pytest.approx(77e12, rel=1e-2)
    assert Flux2().configs == tuple(CONFIGS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"axes_dims_rope": [8, 8, 16]}, "expected four even numbers that make 32"),
        ({"guidance_embeds": True}, "guidance_embeds is true, expected false"),
        ({"out_channels": 32}, "out_channels is 32, expected 64"),
        ({"mlp_ratio": 0.001}, "it is no whole number"),
        ({"num_layers": None}, "num_layers is null, expected a whole number"),
        ({"timestep_guidance_channels": 128}, "timestep_guidance_channels is 128, expected 256"),
    ],
)
def test_a_config_that_is_not_computed_is_told(copied: Path, change: dict[str, object], says: str) -> None:
    path = copied / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(CheckpointError, match=says):
        TransformerConfig.read(copied / "transformer")
