"""Steps over a cached prefix equal one full masked forward, whatever the geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.worker.engines.hidream import decoder
from pixelkiln.worker.engines.hidream.conditions import conditions
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.pipeline import Conditions, Plan, predict, prepare
from pixelkiln.worker.engines.hidream.prefixes import PrefixCache
from pixelkiln.worker.engines.hidream.recipes import RECIPES
from pixelkiln.worker.engines.hidream.references import arrange
from pixelkiln.worker.engines.hidream.rope import rotation
from pixelkiln.worker.engines.hidream.tokens import Prompts
from pixelkiln.worker.engines.hidream.vision import VisionTower

GEOMETRIES = [
    {},
    {
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 24,
        "rope_scaling": {"mrope_section": [6, 3, 3]},
    },
    {
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "rope_scaling": {"mrope_section": [2, 1, 1]},
    },
    {
        "hidden_size": 96,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "rope_scaling": {"mrope_section": [3, 3, 2]},
    },
]


def full_forward(model: Model, plan: Plan, z: mx.array, i: int, conditions: Conditions | None) -> mx.array:
    """x̂0 at the generated tokens, by running every token under one (tokens, tokens) mask."""
    branch = plan.branches[0]
    ids, before = np.array(branch.ids), len(branch.ids) - 1
    parts = [model.decoder.embed_tokens(mx.array(ids[:before])), plan.times[i : i + 1], model.pixels_in(z)]
    if plan.references is not None:
        parts.append(plan.references)
    x = mx.concatenate(parts)
    pads = mx.array(np.flatnonzero(ids == model.config.image_token_id))
    if conditions is not None:
        x[pads] = conditions.features().embeds
    rows, columns = np.indices((len(x), len(x)))
    mask = mx.array((columns <= rows) | (rows >= before))
    turn = rotation(branch.positions, model.config.text)
    for depth, layer in enumerate(model.decoder.layers):
        x, _ = layer(x, turn, None, mask)
        if conditions is not None and depth < len(conditions.features().deepstack):
            x[pads] = x[pads] + conditions.features().deepstack[depth]
    return model.pixels_out(model.decoder.norm(x))[before:]


@pytest.mark.parametrize("text", GEOMETRIES)
def test_text_to_image(random_checkpoint: Callable[..., Path], text: dict[str, object]) -> None:
    folder = random_checkpoint(token_shift=11, **text)
    config = Config.read(folder)
    model, prompts = Model(folder, config, mx.float32), Prompts(folder, config)
    plan = prepare(model, prompts, PrefixCache(2**24), RECIPES["dev"].text, "an old tram", (3, 2))
    z = 8 * mx.random.normal((6, 3072), key=mx.random.key(1))
    cached, full = predict(model, plan, plan.branches[0], z, 5), full_forward(model, plan, z, 5, None)
    assert cached.shape == (7, 3072)
    assert np.array(mx.std(full)) > 0.05  # a model that says something
    np.testing.assert_allclose(cached, full, atol=1e-5)


@pytest.mark.parametrize("turn", [1, 7, 512])
def test_a_prompt_runs_turn_after_turn(
    random_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    monkeypatch.setattr(decoder, "TURN", turn)
    folder = random_checkpoint(**GEOMETRIES[1])
    config = Config.read(folder)
    model, prompts = Model(folder, config, mx.float32), Prompts(folder, config)
    plan = prepare(model, prompts, PrefixCache(2**24), RECIPES["dev"].text, "an old tram in the rain", (3, 2))
    assert len(plan.branches[0].ids) > 2 * 7
    z = 8 * mx.random.normal((6, 3072), key=mx.random.key(1))
    cached, full = predict(model, plan, plan.branches[0], z, 5), full_forward(model, plan, z, 5, None)
    np.testing.assert_allclose(cached, full, atol=1e-5)


@pytest.mark.parametrize(
    ("vision", "sizes"),
    [
        ({}, [(96, 64)]),
        ({"depth": 4, "deepstack_visual_indexes": [0, 1, 3]}, [(64, 64), (150, 90)]),
        ({"deepstack_visual_indexes": []}, [(64, 96), (64, 64), (40, 80), (200, 90), (70, 70)]),
    ],
)
def test_references(
    random_checkpoint: Callable[..., Path], vision: dict[str, object], sizes: list[tuple[int, int]]
) -> None:
    folder = random_checkpoint(token_shift=5, vision=vision, **GEOMETRIES[1])
    config = Config.read(folder)
    model, prompts = Model(folder, config, mx.float32), Prompts(folder, config)
    noise = np.random.default_rng(0)
    pictures = [
        Image.fromarray(noise.integers(0, 256, (height, width, 3), np.uint8)) for width, height in sizes
    ]
    found = conditions(VisionTower(folder, config, mx.float32), arrange(pictures, (160, 64)).pictures)
    plan = prepare(model, prompts, PrefixCache(2**24), RECIPES["dev"].text, "a tram", (2, 3), found)
    z = 8 * mx.random.normal((6, 3072), key=mx.random.key(1))
    cached, full = predict(model, plan, plan.branches[0], z, 9), full_forward(model, plan, z, 9, found)
    assert len(cached) == 7 + sum(rows * columns for rows, columns in found.grids)
    np.testing.assert_allclose(cached, full, atol=2e-5)
    blinded = replace(found.features(), deepstack=())
    blind = full_forward(model, plan, z, 9, replace(found, features=lambda: blinded))
    assert (float(mx.abs(blind - full).max().item()) > 1e-3) == bool(
        found.features().deepstack
    )  # DeepStack is not idle
