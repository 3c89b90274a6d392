"""The model and quantization of a job that leaves them out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.jobs import RenderSpec, Settings, SpecError
from pixelkiln.jobs.asked import Asked, Completion, Fault
from pixelkiln.jobs.catalogue import CATALOGUE, QUANTIZATIONS
from pixelkiln.jobs.choice import Kind
from pixelkiln.jobs.known import same_job
from pixelkiln.jobs.references import Size

SHA = "0123456789abcdef" * 4
EVERYTHING = {f"{name}:{bits}" for name in CATALOGUE for bits in QUANTIZATIONS}


def completion(
    served: Collection[str] = (), model: str | None = None, pictures: Mapping[str, Size] | Size = (640, 480)
) -> Completion:
    """Of a farm where these are served, and the references have these sizes."""

    def size_of(name: str, client: str = "", field: str = "") -> Size:
        return pictures[name] if isinstance(pictures, Mapping) else pictures

    def upload(path: Path, client: str, fault: Fault) -> str:
        assert fault(size_of(SHA)) == ""
        return SHA

    return Completion(Settings.model_construct(model=model), lambda: served, upload, size_of)


def asked(served: Collection[str], **fields: Any) -> Asked:
    return completion(served).of({"prompt": "a fox", **fields})


def kind(*served: str, settings: str | None = None, **given: Any) -> str:
    spec = completion(served, settings).of({"prompt": "a fox", **given}).spec
    return f"{spec.model}:{spec.quantization}"


@pytest.mark.parametrize(
    ("served", "found"),
    [
        ((), "hidream-o1-dev:q6"),  # nobody works: the catalogue's first
        (("demo:bf16",), "demo:bf16"),
        (("qwen-image:q6", "qwen-image:q8"), "qwen-image:q6"),
        (("demo:bf16", "z-image-turbo:q4"), "z-image-turbo:q4"),  # the demo's turn is last
        (("flux2-klein-4b:q6", "z-image-turbo:q6"), "z-image-turbo:q6"),
        (("z-image-turbo:q8", "z-image-turbo:bf16"), "z-image-turbo:q8"),  # the nearest above
        (("z-image-turbo:bf16", "z-image-turbo:q5"), "z-image-turbo:bf16"),
        (("z-image-turbo:q5", "z-image-turbo:q4"), "z-image-turbo:q5"),
        (("qwen-image-edit-2511:q6", "demo:bf16"), "demo:bf16"),  # the first has nothing to edit
        (("none:q6", "z-image-turbo:q3", "x", ""), "hidream-o1-dev:q6"),  # strangers write what is served
    ],
)
def test_what_is_served_decides(served: tuple[str, ...], found: str) -> None:
    assert kind(*served) == found


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"model": "demo"}, "demo:bf16"),
        ({"model": "z-image-turbo"}, "z-image-turbo:q6"),
        ({"quantization": "q8"}, "hidream-o1-dev:q8"),
        ({"model": "demo", "quantization": "q4"}, "demo:q4"),
        ({"references": [SHA], "strength": 0.5}, "z-image-turbo:q6"),
        ({"negative_prompt": "a hat"}, "qwen-image:q6"),
        ({"references": [Path("a.png")], "negative_prompt": "a hat"}, "qwen-image-edit-2511:q6"),
    ],
)
def test_of_many_the_first_that_can(fields: dict[str, Any], found: str) -> None:
    assert kind(*EVERYTHING, **fields) == found


def test_the_settings_come_first() -> None:
    assert kind("demo:bf16", settings="z-image-turbo") == "z-image-turbo:q6"
    assert kind("z-image-turbo:q8", settings="z-image-turbo") == "z-image-turbo:q8"
    assert kind("z-image-turbo:q8", settings="z-image-turbo:q4") == "z-image-turbo:q4"
    assert kind(settings="z-image-turbo:q4", quantization="q5") == "z-image-turbo:q5"
    assert kind(settings="z-image-turbo:q4", model="demo") == "demo:bf16"


def test_a_quantization_that_is_named_chooses_among_models() -> None:
    assert kind("z-image-turbo:q6", "flux2-klein-4b:q8", quantization="q8") == "flux2-klein-4b:q8"
    assert kind("z-image-turbo:q6", quantization="q4") == "z-image-turbo:q4"


def test_who_names_both_asks_nobody() -> None:
    def served() -> set[str]:
        raise AssertionError

    complete = completion()
    complete._served = served  # type: ignore[assignment]
    given = {"prompt": "a fox", "model": "demo", "quantization": "q8"}
    assert complete.of(given) == Asked(RenderSpec.parse(given), frozenset(), frozenset(given))
    whole = RenderSpec.parse({"prompt": "a fox"})  # a spec says all, as on the wire
    assert complete.of(whole) == Asked(whole, frozenset(), frozenset(whole.model_fields_set))
    with pytest.raises(AssertionError):
        complete.of({"prompt": "a fox"})


def test_what_was_filled_in_is_told() -> None:
    assert asked({"demo:bf16"}).filled == {"model", "quantization", "width", "height"}
    assert asked({"demo:bf16"}, width=64, height=64).filled == {"model", "quantization"}
    found = asked({"demo:bf16"})
    assert (found.spec.width, found.spec.height) == (256, 256)


def test_an_id_stands_for_the_same_job_whatever_was_filled_in() -> None:
    first, later = asked({"demo:bf16"}), asked({"z-image-turbo:q8"})
    assert same_job("x", later.spec, first.spec, later.filled) == first.spec
    named = asked((), model="z-image-turbo", quantization="q8")
    with pytest.raises(SpecError, match="another height, model, quantization, width"):
        same_job("x", named.spec, first.spec, named.filled)


@pytest.mark.parametrize("wrong", [{"model": None}, {"model": ["demo"]}, {"model": "x"}, {"quantization": 6}])
def test_what_is_no_model_is_refused_as_it_is(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        completion().of({"prompt": "a fox", **wrong})
    assert caught.value.field == next(iter(wrong))


@pytest.mark.parametrize(
    ("model", "picture", "size"),
    [
        ("flux2-klein-4b", (4000, 3000), (1168, 880)),
        ("flux2-klein-4b", (150, 93), (144, 80)),
        ("qwen-image-edit-2511", (640, 480), (1184, 896)),
        ("z-image-turbo", (640, 484), (640, 480)),
        ("hidream-o1-dev", (640, 480), (1024, 1024)),  # whose pictures decide nothing
    ],
)
@pytest.mark.parametrize("named", [SHA, Path("a.png")])
def test_an_edit_is_as_large_as_its_model_makes_it(
    model: str, picture: Size, size: Size, named: str | Path
) -> None:
    extra = {"strength": 0.5} if CATALOGUE[model].strength else {}
    given = {"prompt": "x", "model": model, "quantization": "q6", "references": [named], **extra}
    found = completion(pictures=picture).of(given)
    assert (found.spec.width, found.spec.height) == size
    assert found.filled == (set() if model == "hidream-o1-dev" else {"width", "height"})
    assert found.spec.references == (SHA,)
    smaller = completion(pictures=picture).of({**given, "width": 512})
    assert (smaller.spec.width, smaller.spec.height, smaller.filled) == (512, 1024, frozenset())


def test_the_last_picture_decides_where_it_is_the_one_edited() -> None:
    sizes = {"a" * 64: (640, 480), "b" * 64: (480, 640)}
    given = {"prompt": "x", "quantization": "q6", "references": list(sizes)}
    edit = completion(pictures=sizes).of({**given, "model": "qwen-image-edit-2509"}).spec
    assert (edit.width, edit.height) == (896, 1184)
    first = completion(pictures=sizes).of({**given, "model": "flux2-klein-4b"}).spec
    assert (first.width, first.height) == (640, 480)


@pytest.mark.parametrize(
    ("model", "picture", "line"),
    [
        (
            "qwen-image-edit-2511",
            (6000, 100),
            "width, height: 7936 x 128, which follows from a picture of 6000 x 100, is beyond"
            " qwen-image-edit-2511; name a size, or crop it",
        ),
        ("flux2-klein-4b", (1000, 124), "references.0: 1000 x 124 is too narrow; 8:1 is the limit, crop it"),
        ("flux2-klein-4b", (63, 64), "references.0: 63 x 64 is too small; a side is at least 64"),
    ],
)
def test_a_picture_that_gives_no_size_is_told(model: str, picture: Size, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        completion(pictures=picture).of({"prompt": "x", "model": model, "references": [SHA]})
    assert str(caught.value) == line


def test_the_place_of_the_one_at_fault_is_told() -> None:
    with pytest.raises(SpecError) as caught:
        completion().all([{"prompt": "a"}, {"prompt": ""}])
    assert caught.value.place == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [("x", "no model 'x'; there are hidream-o1-dev"), ("demo:q3", "demo has bf16, q8, q6, q5, q4, not 'q3'")],
)
def test_a_kind_that_there_is_not(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Kind.parse(text)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": "flux2-klein-4b", "strength": 0.5}, "strength: flux2-klein-4b has none"),
        ({"model": "demo", "width": 100}, "width: 100 is not a multiple of 32"),
        ({"seed": -1}, "seed: "),
        ({"quantization": "q6", "prompt": " "}, "prompt: is empty"),
    ],
)
def test_what_is_wrong_whoever_lives_is_refused_before_anybody_is_asked(
    fields: dict[str, Any], says: str
) -> None:
    def served() -> Collection[str]:
        raise AssertionError("Redis was asked")

    blind = Completion(Settings.model_construct(model=None), served, lambda *_: SHA, lambda *_: (640, 480))
    with pytest.raises(SpecError, match=says):
        blind.of({"prompt": "a fox", **fields})
    with pytest.raises(AssertionError, match="Redis was asked"):
        blind.of({"prompt": "a fox"})
