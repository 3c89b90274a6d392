"""What other languages' JSON says otherwise is taken where it can mean one thing only."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from pixelkiln.jobs import RenderSpec, SpecError
from pixelkiln.jobs.queue.record import FUNCTION, spec_in
from pixelkiln.jobs.spec import MAX_SEED, MAX_WIRE

SHA = "0123456789abcdef" * 4
SPEC = {"prompt": "a fox", "model": "demo"}
FULL = {"prompt": "a fox", "model": "hidream-o1-full"}


def packed(spec: Any, named: Any = None) -> bytes:
    return json.dumps([FUNCTION, None, [spec], {} if named is None else named]).encode()


def changed(base: dict[str, Any], **fields: Any) -> RenderSpec:
    return RenderSpec.parse({**base, **fields})


TAKEN: list[tuple[dict[str, Any], dict[str, Any], RenderSpec]] = [
    # whole numbers with a point: PHP's floats, Lua's numbers, JSON from a spreadsheet
    (SPEC, {"width": 96.0, "height": 64.0}, changed(SPEC, width=96, height=64)),
    (SPEC, {"seed": 5.0}, changed(SPEC, seed=5)),
    (SPEC, {"seed": -0.0}, changed(SPEC, seed=0)),
    (SPEC, {"seed": float(MAX_SEED)}, changed(SPEC, seed=MAX_SEED)),
    (SPEC, {"version": 1.0}, changed(SPEC)),
    (FULL, {"steps": 28.0, "guidance": 5}, changed(FULL, steps=28, guidance=5.0)),
    (FULL, {"guidance": 4.5}, changed(FULL, guidance=4.5)),
    (FULL, {"blend_seams": 2.0}, changed(FULL, blend_seams=2)),
    # empty maps and lists: PHP's and Lua's arrays, Go's nil
    (SPEC, {"labels": []}, changed(SPEC)),
    (SPEC, {"labels": {}}, changed(SPEC)),
    (SPEC, {"references": {}, "layout": {}}, changed(SPEC)),
    (SPEC, {"references": None, "layout": None, "labels": None}, changed(SPEC)),
    # null where a field may hold it
    (SPEC, {"seed": None, "steps": None, "guidance": None}, changed(SPEC)),
    # names
    (
        SPEC,
        {"model": " demo ", "client": "  shop ", "priority": " high"},
        changed(SPEC, client="shop", priority="high"),
    ),
    (FULL, {"references": [f" {SHA}"]}, changed(FULL, references=[SHA])),
]


@pytest.mark.parametrize(("base", "fields", "meant"), TAKEN)
def test_what_can_mean_one_thing_is_taken(
    base: dict[str, Any], fields: dict[str, Any], meant: RenderSpec
) -> None:
    assert spec_in(packed({**base, **fields})) == meant


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"width": 96.5}, "width: must be a valid integer, not 96.5"),
        ({"width": 1e300}, "width: must be less than or equal to 4096, not a number that long"),
        ({"width": "96"}, "width: must be a valid integer, not '96'; write 96 without quotes"),
        ({"width": []}, "width: must be a valid integer"),
        ({"seed": True}, None),
        ({"seed": 2.0**53}, None),
        ({"seed": -1.0}, None),
        ({"keep_aspect": 0}, "keep_aspect: must be a valid boolean, not 0"),
        ({"version": 2.0}, "version: must be 1, not 2"),
        ({"labels": ["a"]}, "labels: must be an object"),
        ({"labels": ""}, "labels: must be an object"),
        ({"labels": {"a": 1.0}}, "labels.a: must be text"),
        ({"labels": {"a": None}}, "labels.a: must be text"),
        ({"labels": {" a": "x"}}, None),
        ({"references": {"0": SHA}}, "references: must be a list"),
        ({"references": [None]}, "references.0: must be text"),
        ({"prompt": None}, "prompt: must be text"),
        ({"width": None}, "width: must be a valid integer, not None"),
        ({"blend_seams": None}, "blend_seams: must be a valid integer, not None"),
        ({"client": None}, "client: must be text"),
        ({"client": "default\n"}, None),
        ({"model": "\tdemo"}, None),
        ({"prompt": []}, "prompt: must be text"),
        ({"prompt": 5.0}, "prompt: must be text"),
        ({"client": "a b"}, None),
        ({"client": " "}, None),
        ({"model": []}, None),
        ({"colour": None}, None),
        ({"colour": []}, None),
    ],
)
def test_what_could_mean_more_is_refused(fields: dict[str, Any], line: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        spec_in(packed({**SPEC, **fields}))
    assert str(caught.value).isprintable()
    assert caught.value.field.partition(".")[0] in fields
    assert line in (None, str(caught.value))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    for field in ("width", "seed", "steps", "guidance"):
        data = packed({**FULL, field: "here"}).replace(b'"here"', number.encode())
        with pytest.raises(SpecError, match=f"^{field}: "):
            spec_in(data)


@pytest.mark.parametrize("before", [b" ", b"\n", b"\r\n\t ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("after", [b"", b"\n", b" \r\n"])
def test_blanks_and_a_byte_order_mark_around_the_payload_are_passed_over(before: bytes, after: bytes) -> None:
    data = before + packed(SPEC) + after
    assert spec_in(data) == spec_in(zlib.compress(data)) == changed(SPEC)


def test_a_payload_may_be_written_over_several_lines() -> None:
    payload = json.dumps([FUNCTION, None, [SPEC], {}], indent=2)
    assert spec_in(payload.encode()) == spec_in(payload.replace("\n", "\r\n").encode()) == changed(SPEC)


def test_phps_empty_named_arguments_are_none() -> None:
    assert spec_in(packed(SPEC, named=[])) == changed(SPEC)
    with pytest.raises(SpecError, match=r"^arguments: "):
        spec_in(packed(SPEC, named=["x"]))


@pytest.mark.parametrize(
    "data", [b"\x00[", b"\xa0[]", b"\xff\xfe[\x00", b" ", b"\xef\xbb\xbf", b"\x0b[]", b"  {}"]
)
def test_what_is_no_blank_is_refused(data: bytes) -> None:
    with pytest.raises(SpecError, match="is not what RQ's JSONSerializer writes"):
        spec_in(data)


def test_blanks_are_inflated_within_the_limit() -> None:
    with pytest.raises(SpecError):
        spec_in(zlib.compress(b" " * 50_000_000 + packed(SPEC), 9))
    with pytest.raises(SpecError):
        spec_in(zlib.compress(b" " * (MAX_WIRE - 10) + packed(SPEC), 9))


def test_submit_is_not_told_less() -> None:
    """A program in Python can say what it means."""
    for fields in ({"width": 96.0}, {"labels": []}, {"model": " demo"}):
        with pytest.raises(SpecError):
            RenderSpec.parse({**SPEC, **fields})
