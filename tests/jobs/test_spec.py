"""What a spec may be, and the one line that says why another may not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkiln.jobs import RenderSpec, SpecError
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.queue.record import read_spec
from pixelkiln.jobs.spec import MAX_SEED, MAX_WIRE

NAMES = ", ".join(RenderSpec.model_fields)
MODELS = ", ".join(CATALOGUE)
SHA = "0123456789abcdef" * 4
BOX = {"x1": 0.1, "x2": 0.5, "y1": 0.1, "y2": 0.5}
NAME_RULE = "must be 1 to 48 of a-z, 0-9, - and _, beginning with a letter or digit"


def refusal(data: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        RenderSpec.parse(data)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"prompt": ""}, "prompt: is empty"),
        ({"prompt": " \n\t "}, "prompt: is empty"),
        ({"prompt": None}, "prompt: must be text"),
        ({"prompt": "x" * 4001}, "prompt: is 4,001 characters; the limit is 4,000"),
        ({"prompt": "a\0b"}, "prompt: holds the control character U+0000 at position 1"),
        ({"prompt": "a\x1b[31m"}, "prompt: holds the control character U+001B at position 1"),
        ({"prompt": "a\ud800"}, "prompt: is not valid Unicode text"),
        ({"width": 100}, "width: 100 is not a multiple of 32; the nearest are 96 and 128"),
        ({"height": 1000}, "height: 1000 is not a multiple of 32; the nearest are 992 and 1024"),
        ({"width": 4128}, "width: must be less than or equal to 4096, not 4128"),
        ({"width": 32}, "width: must be greater than or equal to 64, not 32"),
        ({"width": -64}, "width: must be greater than or equal to 64, not -64"),
        ({"width": "64"}, "width: must be a valid integer, not '64'; write 64 without quotes"),
        ({"width": 64.0}, "width: must be a valid integer, not 64.0; write 64"),
        (
            {"width": 4096, "height": 1056},
            "width, height: 4096 x 1056 is 4,325,376 pixels; the limit is 4,194,304 (2048 x 2048)",
        ),
        ({"model": "dall-e"}, f"model: no model 'dall-e'; there are {MODELS}"),
        ({"seed": -1}, "seed: must be greater than or equal to 0, not -1; leave it out, and one is drawn"),
        ({"seed": "-1"}, "seed: must be a valid integer, not '-1'; leave it out, and one is drawn"),
        ({"seed": "123"}, "seed: must be a valid integer, not '123'; write 123 without quotes"),
        ({"seed": "random"}, "seed: must be a valid integer, not 'random'; leave it out, and one is drawn"),
        ({"seed": ""}, "seed: must be a valid integer, not ''; leave it out, and one is drawn"),
        ({"seed": 5.0}, "seed: must be a valid integer, not 5.0; write 5"),
        ({"seed": -1.0}, "seed: must be a valid integer, not -1.0; leave it out, and one is drawn"),
        ({"seed": [5]}, "seed: must be a valid integer"),
        ({"steps": "20"}, "steps: must be a valid integer, not '20'; write 20 without quotes"),
        ({"guidance": "2.5"}, "guidance: must be a valid number, not '2.5'; write 2.5 without quotes"),
        (
            {"keep_aspect": "True"},
            "keep_aspect: must be a valid boolean, not 'True'; write true without quotes",
        ),
        ({"blend_seams": 2.0}, "blend_seams: must be a valid integer, not 2.0; write 2"),
        (
            {"seed": 2**53},
            "seed: must be less than or equal to 9007199254740991, not 9007199254740992",
        ),
        ({"seed": True}, "seed: must be a valid integer, not True"),
        ({"seed": 1.5}, "seed: must be a valid integer, not 1.5"),
        ({"colour": "red"}, f"colour: no such field; there are {NAMES}"),
        ({"quantization": "q3"}, "quantization: must be 'bf16', 'q8', 'q6', 'q5' or 'q4', not 'q3'"),
        ({"priority": "urgent"}, "priority: must be 'high', 'normal' or 'low', not 'urgent'"),
        ({"client": "../up"}, f"client: {NAME_RULE}"),
        ({"client": "a\n"}, f"client: {NAME_RULE}"),
        ({"client": ""}, f"client: {NAME_RULE}"),
        ({"client": "x" * 49}, f"client: {NAME_RULE}"),
        ({"version": 2}, "version: must be 1, not 2"),
        ({"guidance": 2.0}, "guidance: hidream-o1-dev has its own, fixed by its recipe; leave it out"),
        ({"steps": 29}, "steps: 29 is out of range; hidream-o1-dev takes 4 to 28"),
        ({"coarse_steps": 28}, "coarse_steps: 28 is out of range; 28 steps take 0 to 27"),
        ({"coarse_steps": 14, "steps": 14}, "coarse_steps: 14 is out of range; 14 steps take 0 to 13"),
        ({"coarse_steps": -1}, "coarse_steps: must be greater than or equal to 0, not -1"),
        (
            {"coarse_steps": 18, "references": [SHA]},
            "coarse_steps: none beside reference pictures; leave it out",
        ),
        (
            {"model": "hidream-o1-full", "coarse_steps": 1},
            "coarse_steps: hidream-o1-full takes none; leave it out",
        ),
        (
            {"model": "z-image-turbo", "coarse_steps": 1},
            "coarse_steps: z-image-turbo takes none; leave it out",
        ),
        (
            {"model": "hidream-o1-full", "steps": 3},
            "steps: 3 is out of range; hidream-o1-full takes 4 to 100",
        ),
        (
            {"model": "hidream-o1-full", "guidance": float("nan")},
            "guidance: nan is out of range; hidream-o1-full takes 0.0 to 20.0",
        ),
        ({"references": ["abc"]}, "references.0: must be 64 hexadecimal digits, the picture's sha256"),
        ({"references": SHA}, "references: must be a list"),
        ({"model": "demo", "references": [SHA]}, "references: demo takes no reference pictures"),
        ({"keep_aspect": True}, "keep_aspect: needs exactly one reference picture"),
        ({"layout": [BOX]}, "layout: 1 boxes for 0 reference pictures"),
        (
            {"references": [SHA], "layout": [{**BOX, "x1": 0.5}]},
            "layout.0: a box needs x1 < x2 and y1 < y2",
        ),
        (
            {"references": [SHA], "layout": [{**BOX, "text": "\x07"}]},
            "layout.0.text: holds the control character U+0007 at position 0",
        ),
        ({"labels": {"a": "\x7f"}}, "labels.a: holds the control character U+007F at position 0"),
        ({"labels": {"A": "x"}}, f"labels.A: {NAME_RULE}"),
        ({"labels": {"a": 1}}, "labels.a: must be text"),
        ({"labels": ["a"]}, "labels: must be an object"),
        ({"blend_seams": 9}, "blend_seams: must be less than or equal to 8, not 9"),
    ],
)
def test_refusals_name_the_field_and_what_it_may_be(fields: dict[str, Any], line: str) -> None:
    error = refusal({"prompt": "a fox", **fields})
    assert str(error) == line
    assert line.startswith(error.field)


INVISIBLE = {
    "zero width": "\u200b\u200c\u200d\u2060\ufeff",
    "spaces": "\u00a0\u1680\u2000\u200a\u202f\u205f\u3000",
    "lines": "\u2028\u2029\n\t",
    "directions": "\u200e\u200f\u202a\u202e\u2066\u2069\u061c",
    "an empty Braille cell": "\u2800",
    "Hangul fillers": "\u3164\u115f\u1160\uffa0",
    "variation selectors": "\ufe0f\ufe0e\u180b\U000e0100",
    "tags": "\U000e0001\U000e0061\U000e007f",
    "a joiner of graphemes": "\u034f",
    "a soft hyphen": "\u00ad",
    "Khmer's vowels of no shape": "\u17b4\u17b5",
    "Mongolian's": "\u180e",
    "marks on nothing": "\u0301\u20dd",
    "reserved": "\u2065\ufff0",
    "a musical one": "\U0001d159",
}


@pytest.mark.parametrize("name", INVISIBLE)
def test_a_prompt_that_shows_nothing_is_empty(name: str) -> None:
    for prompt in (INVISIBLE[name], f" {INVISIBLE[name]} ", "".join(INVISIBLE.values())):
        assert str(refusal({"prompt": prompt})) == "prompt: is empty"
    for seen in (
        "a",
        ".",
        "\u2801",
        "é",
        "e\u0301",
        "❤\ufe0f",
        "1\ufe0f\u20e3",
        "\uac00",
        "狐",
        "\uf8ff",
        "\U0001fae9",
        "🇩🇪",
    ):
        assert RenderSpec.parse({"prompt": INVISIBLE[name] + seen}).prompt.endswith(seen)


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": -1},
        {"prompt": 5},
        {"colour": "red"},
        {"layout": [{"x1": 2}]},
    ],
)
def test_a_spec_that_is_made_in_python_is_refused_in_the_same_line(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        RenderSpec(**{"prompt": "a fox", **fields})
    assert str(caught.value) == str(refusal({"prompt": "a fox", **fields}))
    with pytest.raises(SpecError, match=r"^prompt: is missing$"):
        RenderSpec()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({}, "prompt: is missing"),
        ([], "spec: must be an object of fields, not list"),
        ("[1]", "spec: must be an object of fields, not list"),
        ("null", "spec: must be an object of fields, not NoneType"),
        (
            '{"prompt": "' + "x" * MAX_WIRE + '"}',
            f"spec: is {MAX_WIRE + 14:,} bytes; the limit is {MAX_WIRE:,}",
        ),
    ],
)
def test_refuses_what_is_no_spec(data: Any, line: str) -> None:
    assert str(refusal(data)) == line


@pytest.mark.parametrize("data", ["", "{", b"\xff", "[" * 20_000, '{"a": 1e'])
def test_refuses_what_is_not_json(data: str | bytes) -> None:
    assert str(refusal(data)).startswith("spec: is not JSON: ")


@pytest.mark.parametrize(
    "fields",
    [{"a\nb": 1}, {"labels": {"x\ny": "z"}}, {"model": "a\nb"}, {"labels": {"a\x1b[2J": "b"}}],
)
def test_a_refusal_is_one_printable_line_whatever_the_names(fields: dict[str, Any]) -> None:
    assert str(refusal({"prompt": "x", **fields})).isprintable()


@pytest.mark.parametrize("field", ["model", "seed", "width", "prompt", "version", "labels"])
def test_a_number_too_long_to_print_is_refused_all_the_same(field: str) -> None:
    assert len(str(refusal({"prompt": "x", field: 10**5000}))) < 300


def test_steps_too_long_to_print_are_refused_all_the_same() -> None:
    error = refusal({"prompt": "x", "model": "hidream-o1-full", "steps": 10**5000})
    assert error.field == "steps"


def test_defaults() -> None:
    spec = RenderSpec.parse({"prompt": "a fox"})
    assert spec.model_dump() == {
        "version": 1,
        "prompt": "a fox",
        "model": "hidream-o1-dev",
        "quantization": "bf16",
        "width": 1024,
        "height": 1024,
        "seed": None,
        "steps": None,
        "guidance": None,
        "references": (),
        "keep_aspect": False,
        "layout": (),
        "priority": "normal",
        "client": "default",
        "labels": {},
        "blend_seams": 0,
    }
    assert spec.lane.name == "kiln:hidream-o1-dev:bf16:normal:default"


def test_coarse_steps_are_said_only_where_there_are_some() -> None:
    plain = RenderSpec.parse({"prompt": "a fox", "coarse_steps": 0})
    assert "coarse_steps" not in {**plain.wire(), **plain.model_dump()}  # older readers know no such field
    spec = RenderSpec.parse({"prompt": "a fox", "coarse_steps": 18})
    assert spec.wire()["coarse_steps"] == 18
    assert RenderSpec.parse(spec.wire()) == spec
    assert spec.differs(plain) == ["coarse_steps"]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, ""),
        ({"steps": 28}, ""),
        ({"steps": 14}, "14 of 28 steps"),
        ({"coarse_steps": 18}, "the first 18 coarse"),
        ({"steps": 14, "coarse_steps": 10}, "14 of 28 steps, the first 10 coarse"),
        ({"model": "hidream-o1-full", "steps": 20}, ""),  # made for any number of them
    ],
)
def test_what_departs_from_a_recipe(fields: dict[str, Any], told: str) -> None:
    assert RenderSpec.parse({"prompt": "a fox", **fields}).off_recipe == told


def test_a_model_has_a_size_of_its_own() -> None:
    spec = RenderSpec.parse({"prompt": "a fox", "model": "demo"})
    assert (spec.width, spec.height) == (256, 256)


def test_wire_round_trip_keeps_everything() -> None:
    fields = {
        "prompt": "Ein Fuchs, 狐 🦊\n\ttab [red]x[/] <|tms_token|>",
        "model": "hidream-o1-full",
        "quantization": "q6",
        "width": 2048,
        "height": 64,
        "seed": MAX_SEED,
        "steps": 4,
        "guidance": 0.0,
        "references": [SHA],
        "keep_aspect": True,
        "layout": [{**BOX, "text": "hier"}],
        "priority": "high",
        "client": "studio_1",
        "labels": {"a": "b"},
        "blend_seams": 8,
    }
    spec = RenderSpec.parse(fields)
    assert RenderSpec.parse(json.dumps(spec.wire())) == spec
    assert spec.wire() == {"version": 1, **fields}


def test_what_came_later_is_absent_until_it_is_said() -> None:
    edit = {"prompt": "x", "model": "z-image-turbo", "references": [SHA], "strength": 0.5}
    assert "strength" not in RenderSpec.parse({"prompt": "x"}).model_dump()
    assert RenderSpec.parse(edit).wire()["strength"] == 0.5
    negative = RenderSpec.parse({"prompt": "x", "model": "qwen-image", "negative_prompt": ""})
    assert negative.wire()["negative_prompt"] == ""
    assert RenderSpec.parse(json.dumps(negative.wire())) == negative


def test_wire_says_the_size_even_where_it_is_a_default() -> None:
    wire = RenderSpec.parse({"prompt": "x"}).wire()
    assert wire == {"version": 1, "prompt": "x", "width": 1024, "height": 1024}


def test_the_largest_spec_that_is_accepted_is_also_rendered() -> None:
    """What `submit` takes, the worker must not refuse as too large: JSON writes an emoji in 12 bytes."""
    spec = RenderSpec.parse(
        {
            "prompt": "🦊" * 4000,
            "references": [SHA] * 10,
            "layout": [{**BOX, "text": "🦊" * 200}] * 10,
            "labels": {f"{i:048}": "🦊" * 200 for i in range(16)},
            "client": "c" * 48,
            "seed": 1,
        }
    )
    data = json.dumps(["worker.tasks.render", None, [spec.wire()], {}]).encode()
    assert read_spec(data, spec.lane, "id") == spec


def test_seed_zero_is_a_seed() -> None:
    spec = RenderSpec.parse({"prompt": "x", "seed": 0})
    assert spec.with_seed().seed == 0
    assert spec.with_seed("job").seed == 0
    assert spec.wire()["seed"] == 0


def test_seed_from_the_id_is_stable() -> None:
    spec = RenderSpec.parse({"prompt": "x"})
    assert spec.with_seed("job-1").seed == 3015108953241770  # changing this changes people's pictures
    assert spec.with_seed("job-2").seed != spec.with_seed("job-1").seed


def test_drawn_seeds_differ_and_fit() -> None:
    spec = RenderSpec.parse({"prompt": "x"})
    seeds = {spec.with_seed().seed for _ in range(50)}
    assert len(seeds) == 50
    assert all(seed is not None and 0 <= seed <= MAX_SEED for seed in seeds)


def test_the_schema_states_the_limits() -> None:
    schema = RenderSpec.model_json_schema()
    properties = schema["properties"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["prompt"]
    assert properties["prompt"]["maxLength"] == 4000
    assert properties["width"]["multipleOf"] == 16
    assert properties["width"]["maximum"] == 8192
    assert properties["model"]["enum"] == list(CATALOGUE)
    assert properties["seed"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
    assert properties["references"]["maxItems"] == 10


def attempt(data: Any) -> tuple[RenderSpec | None, str]:
    """The spec, or what was told; any other error fails the test."""
    try:
        return RenderSpec.parse(data), ""
    except SpecError as error:
        return None, str(error)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from([*RenderSpec.model_fields, "x1", "", "a.b"]) | st.text(max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(FIELDS, VALUES, max_size=5), st.booleans())
def test_any_mapping_parses_or_is_refused_in_one_line(data: dict[str, Any], prompted: bool) -> None:
    spec, told = attempt({"prompt": "x", **data} if prompted else data)
    assert told.isprintable()
    assert len(told) < 1000
    assert spec is None or RenderSpec.parse(json.dumps(spec.wire())) == spec


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=40)
    | st.binary(max_size=40)
    | VALUES.map(lambda v: json.dumps(v, default=str, skipkeys=True))
)
def test_any_text_parses_or_is_refused_in_one_line(data: str | bytes) -> None:
    assert attempt(data)[1].isprintable()
