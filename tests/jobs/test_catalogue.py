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


ONE, TWO = {"references": [SHA]}, {"references": [SHA] * 2}


@pytest.mark.parametrize(
    ("model", "fields", "line"),
    [
        ("demo", {"strength": 0.5}, "strength: demo has none; leave it out"),
        ("flux2-klein-4b", {**ONE, "strength": 0.5}, "strength: flux2-klein-4b has none; leave it out"),
        ("z-image-turbo", {"strength": 0.5}, "strength: needs a reference picture"),
        ("z-image-turbo", ONE, "strength: is missing; z-image-turbo takes a reference picture only with it"),
        ("z-image-turbo", {**ONE, "strength": 0}, "strength: must be greater than 0, not 0"),
        (
            "z-image-turbo",
            {**ONE, "strength": 1.5},
            "strength: must be less than or equal to 1, not 1.5",
        ),
        (
            "z-image-turbo",
            {**TWO, "strength": 0.5},
            "references: z-image-turbo takes at most 1 reference pictures",
        ),
        (
            "z-image-turbo",
            {"guidance": 4},
            "guidance: z-image-turbo has its own, fixed by its recipe; leave it out",
        ),
        (
            "z-image-turbo",
            {"width": 1000},
            "width: 1000 is not a multiple of 16; the nearest are 992 and 1008",
        ),
        ("flux2-klein-4b", {"width": 48}, "width: must be greater than or equal to 64, not 48"),
        (
            "flux2-klein-4b",
            {"negative_prompt": "x"},
            "negative_prompt: flux2-klein-4b takes none; leave it out",
        ),
        ("qwen-image", ONE, "references: qwen-image takes no reference pictures"),
        ("qwen-image", {"steps": 1}, "steps: 1 is out of range; qwen-image takes 2 to 100"),
        (
            "qwen-image",
            {"negative_prompt": "x", "guidance": 1},
            "negative_prompt: has no part at guidance 1.0; leave it out",
        ),
        (
            "qwen-image",
            {"negative_prompt": "\x07"},
            "negative_prompt: holds the control character U+0007 at position 0",
        ),
        (
            "qwen-image-edit-2511",
            {},
            "references: qwen-image-edit-2511 edits pictures and needs at least 1",
        ),
        (
            "qwen-image-edit-2509",
            {"references": [SHA] * 4},
            "references: qwen-image-edit-2509 takes at most 3 reference pictures",
        ),
        (
            "flux2-klein-4b",
            {**ONE, "keep_aspect": True},
            "keep_aspect: flux2-klein-4b has its own rule; leave it out, width and height too",
        ),
        ("flux2-klein-4b", {**ONE, "layout": [BOX]}, "layout: flux2-klein-4b takes no boxes; leave it out"),
        ("qwen-image", {"blend_seams": 1}, "blend_seams: qwen-image leaves no seams; leave it out"),
    ],
)
def test_what_the_models_take_not(model: str, fields: dict[str, Any], line: str) -> None:
    with pytest.raises(SpecError) as caught:
        RenderSpec.parse({"prompt": "x", "model": model, **fields})
    assert str(caught.value) == line


def test_the_quantization_to_choose() -> None:
    model = CATALOGUE["qwen-image"]
    assert [
        model.preferred(one) for one in ((), ("q4", "q6", "bf16"), ("q4", "bf16", "q8"), ("q4", "q5"))
    ] == [
        "q6",
        "q6",
        "q8",
        "q5",
    ]
    assert (OTHER.preferred(()), OTHER.preferred(("q8", "bf16"))) == ("bf16", "q8")


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
