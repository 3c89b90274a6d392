from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.hidream.config import PATCH
from pixelkiln.worker.engines.hidream.recipes import DEV_TIMESTEPS, RECIPES
from pixelkiln.worker.engines.hidream.references import KEPT_BUDGET


def test_the_table() -> None:
    dev, full = RECIPES["dev"], RECIPES["full"]
    assert (dev.text.scheduler, dev.text.noise_start, dev.text.noise_clip) == ("flash", 7.5, 2.5)
    assert dev.one is not None
    assert (dev.one.scheduler, dev.one.noise_start, dev.one.steps) == ("flow_match", 8.0, 28)
    assert dev.several == dev.text
    assert (RECIPES["dev-2604"].text.noise_start, RECIPES["dev-2604"].text.noise_clip) == (8.0, 8.0)
    assert (full.text.steps, full.text.guidance, full.text.shift) == (50, 5.0, 3.0)
    assert full.several is not None
    assert full.several.shift == 1.0


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_catalogue_and_the_recipes_agree(recipe: str) -> None:
    model, recipes = CATALOGUE[f"hidream-o1-{recipe}"], RECIPES[recipe]
    assert (model.max_references > 0) == model.layout == (recipes.several is not None)
    assert (model.steps.default, model.guidance.default) == (recipes.text.steps, recipes.text.guidance)
    assert (model.guidance.range is not None) == recipes.text.guided
    assert model.steps.range is not None
    listed = recipes.text.timesteps is not None
    assert model.steps.distilled == model.coarse == recipes.text.noisy == listed
    if listed:  # its list, thinned, is all that there is
        for steps in range(int(model.steps.range[0]), int(model.steps.range[1]) + 1):
            assert recipes.text.with_steps(steps).steps == steps
    assert model.grid == PATCH
    assert model.seams
    assert model.max_pixels == KEPT_BUDGET**2  # which the budget counts where a reference's aspect is kept


def test_fewer_steps_keep_the_first_and_the_last() -> None:
    dev = RECIPES["dev"].text
    for steps in range(2, 29):
        timesteps = dev.with_steps(steps).schedule().timesteps
        assert len(set(timesteps)) == steps
        assert (timesteps[0], timesteps[-1]) == (999, 8)
        assert list(timesteps) == sorted(timesteps, reverse=True)
        assert set(timesteps) <= set(DEV_TIMESTEPS)
    assert dev.with_steps(28) == dev
    assert dev.with_steps(1).schedule().sigmas == (0.999, 0.0)


@pytest.mark.parametrize("steps", [0, 29])
def test_steps_that_cannot_be(steps: int) -> None:
    with pytest.raises(SpecError, match="steps"):
        RECIPES["dev"].text.with_steps(steps)


def test_a_distilled_model_has_no_guidance() -> None:
    with pytest.raises(SpecError, match="guidance"):
        RECIPES["dev"].text.with_guidance(3.0)


def test_a_model_without_references_says_so() -> None:
    with pytest.raises(SpecError, match="references"):
        RECIPES["dev-2604"].choose(1)


def test_noise_ramps_in_a_line() -> None:
    recipe = replace(RECIPES["dev"].text.with_steps(3), noise_start=8.0, noise_end=6.0)
    assert recipe.noise_scales() == (8.0, 7.0, 6.0)


@pytest.mark.parametrize("family", ["dev", "full"])
def test_every_sampler_ends_at_the_prediction(family: str) -> None:
    """Whatever noise a sampler starts from, a model that always predicts one picture makes it draw that."""
    recipe = RECIPES[family].text.with_steps(6)
    sampler, sigmas = recipe.sampler(), recipe.schedule().sigmas
    picture = mx.random.normal((2, 3072), key=mx.random.key(0))
    z = 8 * mx.random.normal(picture.shape, key=mx.random.key(1))
    for i, sigma in enumerate(sigmas[:-1]):
        noise = mx.random.normal(picture.shape, key=mx.random.key(2 + i))
        z = sampler.step(i, -(picture - z) / sigma, z, noise)
    np.testing.assert_allclose(z, picture, atol=1e-5)
