"""The first steps on half the grid: which grid that is, what it begins from, and what comes of it."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.engine import Step
from pixelkiln.worker.engines.hidream.coarse import coarse_noise, enlarge, halved
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.engines.hidream.patches import to_patches, to_planes
from pixelkiln.worker.engines.hidream.positions import Grid
from pixelkiln.worker.engines.mlx.noise import seeded


def spec(**fields: Any) -> RenderSpec:
    return RenderSpec(**{"prompt": "a red fox", "width": 128, "height": 64, "seed": 0, **fields})


def digest(steps: list[Step]) -> str:
    assert steps[-1].pixels is not None
    return hashlib.sha256(steps[-1].pixels.tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("grid", "small"),
    [
        ((8, 8), (4, 4)),
        ((6, 10), (3, 5)),  # 320 x 192
        ((13, 9), (7, 5)),  # 288 x 416: 3% wider; 4 x 6 would be 4% narrower
        ((3, 3), (1, 1)),
        ((2, 64), (1, 32)),
        ((2, 3), (1, 2)),
    ],
)
def test_the_small_grid_keeps_the_proportions_best(grid: Grid, small: Grid) -> None:
    assert halved(grid) == small


@pytest.mark.parametrize(("small", "grid"), [((2, 3), (4, 6)), ((3, 2), (5, 4))])
def test_enlarging_is_bicubic_and_shows_the_same_picture(small: Grid, grid: Grid) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(3, 4, 3)).astype(np.float32)
    size = (small[1] * 32, small[0] * 32)
    smooth = np.stack([np.asarray(Image.fromarray(c).resize(size, Image.Resampling.BICUBIC)) for c in coarse])
    planes = to_planes(enlarge(to_patches(mx.array(smooth)), small, grid), *grid)
    wanted = [
        np.asarray(Image.fromarray(c).resize((grid[1] * 32, grid[0] * 32), Image.Resampling.BICUBIC))
        for c in smooth
    ]
    inside = np.s_[:, 4:-4, 4:-4]  # at the very edge Pillow weighs fewer neighbours
    np.testing.assert_allclose(np.array(planes)[inside], np.stack(wanted)[inside], atol=1e-5)


def test_several_pictures_are_enlarged_as_each_alone() -> None:
    two = mx.random.normal((2, 6, 3072), key=mx.random.key(0))
    together = enlarge(two, (2, 3), (4, 6))
    for one, found in zip(two, together, strict=True):
        np.testing.assert_array_equal(np.array(enlarge(one, (2, 3), (4, 6))), np.array(found))


def test_noise_of_an_exact_half_is_the_full_grids_and_as_normal() -> None:
    full, own = seeded(5, (24, 3072)), seeded(5, (6, 3072))
    drawn = np.array(coarse_noise(full, own, (2, 3), (4, 6))(3))
    assert abs(drawn.mean()) < 0.03
    assert abs(drawn.std() - 1) < 0.03
    planes = np.array(to_planes(full(3), 4, 6))
    fours = planes.reshape(3, 64, 2, 96, 2).sum((2, 4)) / 2
    np.testing.assert_allclose(np.array(to_planes(mx.array(drawn), 2, 3)), fours, atol=1e-5)


def test_noise_of_an_odd_half_is_its_own() -> None:
    full, own = seeded(5, (20, 3072)), seeded(5, (6, 3072))
    draw = coarse_noise(full, own, (3, 2), (5, 4))
    np.testing.assert_array_equal(np.array(draw(3)), np.array(draw(3)))
    for step in range(4):  # none is what another step, or the full grid, draws
        assert not np.array_equal(np.array(draw(3)), np.array(own(step)))


@pytest.mark.parametrize("size", [(128, 64), (96, 160)])
def test_a_coarse_render_repeats_and_is_another_picture(engine: HiDreamEngine, size: tuple[int, int]) -> None:
    job = spec(coarse_steps=27, width=size[0], height=size[1])
    steps = list(engine.render(job))
    assert [step.index for step in steps] == list(range(29))
    assert digest(steps) == digest(list(engine.render(job)))
    assert digest(steps) != digest(list(engine.render(job.model_copy(update={"coarse_steps": 0}))))
    shapes = {step.preview().shape for step in steps if step.preview}
    assert shapes == {(size[1], size[0], 3)}
    assert steps[-1].facts is not None
    assert steps[-1].facts.record()["coarse_steps"] == "27"


def test_without_coarse_steps_nothing_tells_of_them(engine: HiDreamEngine) -> None:
    steps = list(engine.render(spec()))
    assert steps[-1].facts is not None
    assert "coarse_steps" not in steps[-1].facts.record()
    assert {step.left for step in steps} == {None}


def test_the_rest_is_foreseen_by_the_arithmetic_of_both_grids(engine: HiDreamEngine) -> None:
    left = [step.left for step in engine.render(spec(width=512, height=256, coarse_steps=26))]
    assert left[0] is None
    assert left[27:] == [None, None]
    coarse = [one for one in left[1:27] if one is not None]
    assert [round(a - b, 6) for a, b in pairwise(coarse)] == [1.0] * 25
    assert 2 * 3 < coarse[-1] < 2 * 6  # two steps of four times the tokens


def test_a_render_is_cancelled_in_its_coarse_part(engine: HiDreamEngine) -> None:
    parts = engine.render(spec(coarse_steps=18))
    assert [next(parts).index for _ in range(3)] == [0, 1, 2]
    parts.close()
    assert digest(list(engine.render(spec()))) == digest(list(engine.render(spec())))


def test_it_needs_no_more_memory_than_the_full_grid(engine: HiDreamEngine) -> None:
    assert engine.bytes_needed(spec(coarse_steps=18)) == engine.bytes_needed(spec())


@pytest.mark.parametrize("fields", [{"coarse_steps": 28}, {"steps": 8, "coarse_steps": 8}])
def test_a_step_remains_for_the_full_grid(engine: HiDreamEngine, fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="coarse_steps: must be 0 to"):
        list(engine.render(spec(**fields)))
