"""What differs between models is data; what a spec says of another grid and other limits follows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pixelkiln.jobs import RenderSpec, SpecError
from pixelkiln.jobs.catalogue import CATALOGUE, DEFAULT_MODEL, Model, Setting

SHA = "0123456789abcdef" * 4
BOX = {"x1": 0.1, "x2": 0.5, "y1": 0.1, "y2": 0.5}
OTHER = Model(
    "other",
    grid=48,
    min_side=96,
    max_side=1000,
    max_pixels=500_000,
    size=(480, 480),
    steps=Setting(4, (1, 8)),
    guidance=Setting(1.0),
    max_references=2,
    quantizations=("bf16", "q8"),
)


@pytest.fixture(autouse=True)
def other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "other", OTHER)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"width": 512}, "width: 512 is not a multiple of 48; the nearest are 480 and 528"),
        ({"width": 990}, "width: 990 is not a multiple of 48; the nearest is 960"),
        ({"width": 64}, "width: must be greater than or equal to 96, not 64"),
        ({"width": 1008}, "width: must be less than or equal to 1000, not 1008"),
        (
            {"width": 960, "height": 528},
            "width, height: 960 x 528 is 506,880 pixels; the limit is 500,000 (672 x 672)",
        ),
        ({"quantization": "q6"}, "quantization: other has bf16, q8, not q6"),
        ({"steps": 9}, "steps: 9 is out of range; other takes 1 to 8"),
        ({"guidance": 1.0}, "guidance: other has its own, fixed by its recipe; leave it out"),
        ({"references": [SHA] * 3}, "references: other takes at most 2 reference pictures"),
        ({"references": [SHA], "layout": [BOX]}, "layout: other takes no boxes; leave it out"),
        ({"blend_seams": 2}, "blend_seams: other leaves no seams; leave it out"),
    ],
)
def test_refusals_follow_the_model(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(SpecError) as caught:
        RenderSpec.parse({"prompt": "x", "model": "other", **fields})
    assert str(caught.value) == line


def test_what_a_model_allows_is_taken() -> None:
    spec = RenderSpec.parse({"prompt": "x", "model": "other", "steps": 8, "references": [SHA] * 2})
    assert (spec.width, spec.height) == (480, 480)
    assert RenderSpec.parse({"prompt": "x", "model": "other", "width": 960, "height": 96}).width == 960


def test_sizes_that_fit() -> None:
    assert OTHER.fits(480, 96)
    assert not any(OTHER.fits(*size) for size in ((512, 480), (48, 480), (480, 1008), (960, 528)))
    assert OTHER.largest_square == 672
    assert [OTHER.nearest(side) for side in (1, 128, 480, 5000)] == [96, 144, 480, 672]
    assert CATALOGUE["demo"].nearest(128) == 128


@pytest.mark.parametrize("model", list(CATALOGUE.values()), ids=list(CATALOGUE))
def test_every_entry_holds_together(model: Model) -> None:
    assert CATALOGUE[model.name] == model
    assert model.fits(*model.size)
    assert model.fits(model.largest_square, model.largest_square)
    for setting in (model.steps, model.guidance):
        assert setting.range is None or setting.range[0] <= setting.default <= setting.range[1]
    assert not model.layout or model.max_references
    assert not replace(model, max_pixels=1).fits(*model.size)


def test_the_default_is_one_of_them() -> None:
    assert DEFAULT_MODEL in CATALOGUE
