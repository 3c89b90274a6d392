"""Files as editors and spreadsheets save them, and rows that come back as they were written."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkiln.jobs import UsageError
from pixelkiln.jobs.batches import reading
from pixelkiln.jobs.batches.reading import guessed, read_rows
from pixelkiln.jobs.batches.rows import MAX_JOBS, SHOWN, Fault, FaultyRowsError, Place, Row
from pixelkiln.jobs.batches.sweeps import expand
from pixelkiln.jobs.plain import plain

HERE = Path()
LINES = "prompt,seed\r\na fox,5\r\n\r\nein Fuchs für Łódź,6\r\n"
READ = [{"prompt": "a fox", "seed": 5}, {"prompt": "ein Fuchs für Łódź", "seed": 6}]


def fields(name: str, data: bytes, **options: Any) -> list[dict[str, Any]]:
    rows = expand(read_rows(name, data, HERE, **options))
    assert [str(fault) for row in rows for fault in row.faults] == []
    return [row.fields for row in rows]


def outcome(name: str, data: bytes, **options: Any) -> list[Row] | str:
    """The rows, or the refusal."""
    try:
        return expand(read_rows(name, data, HERE, **options))
    except UsageError as error:
        return str(error)


@pytest.mark.parametrize(
    "data",
    [
        LINES.encode(),
        codecs.BOM_UTF8 + LINES.encode(),
        LINES.encode("utf-16"),
        codecs.BOM_UTF16_BE + LINES.encode("utf-16-be"),
        LINES.encode("utf-16-le"),
        LINES.encode("utf-16-be"),
        LINES.encode("utf-32"),
        LINES.replace("\r\n", "\n").encode(),
        LINES.replace("\r\n", "\r").encode(),
        b"\n\n" + LINES.encode(),
    ],
)
def test_every_encoding_and_line_end_reads_alike(data: bytes) -> None:
    assert fields("night.csv", data) == READ


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("a fox\na café".encode("cp1252"), "line 2: is not UTF-8 text; save the file as UTF-8"),
        (codecs.BOM_UTF16_LE + b"a", "line 1: is not UTF-16 text; save the file as UTF-8"),
        (b"", "night.txt: holds no jobs"),
        ("\ufeff# a comment\n \u00a0\n\u200b\n".encode(), "night.txt: holds no jobs"),
    ],
)
def test_what_is_no_text_or_empty_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_rows("night.txt", data, HERE)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a fox", "text"),
        ("a fox, a hare\na hen", "text"),
        ("[a fox] at dawn", "text"),
        ("{red} fox", "text"),
        ("prompt", "text"),
        ("- a fox\n- a hare", "text"),
        ("prompt,seed\na fox,5", "csv"),
        ("prompt\tseed\na fox\t5", "csv"),
        ('\n {"prompt": "a fox"}\n', "text"),  # where such a line is read as its fields
        ('{"defaults": {},\n"jobs": []}', "json"),
        ('{\n"jobs": []}', "json"),
        ('["a fox",\n"a hare"]', "json"),
        ('[\n{"prompt": "a fox"}]', "json"),
        ("---\n- a fox", "yaml"),
        ("defaults:\n  model: demo", "yaml"),
        ("- prompt: a fox", "yaml"),
    ],
)
def test_a_file_without_a_known_suffix_is_looked_into(text: str, kind: str) -> None:
    assert guessed(text) == kind


def test_the_format_goes_before_the_suffix() -> None:
    assert fields("a.csv", b"a fox\na hare", format="text") == [{"prompt": "a fox"}, {"prompt": "a hare"}]
    assert fields("a.txt", b'{"jobs": ["a fox"]}', format="json") == [{"prompt": "a fox"}]
    assert fields("A.CSV", b"prompt\na fox") == [{"prompt": "a fox"}]


def test_defaults_go_for_rows_that_say_nothing_else() -> None:
    given = {"model": "demo", "size": "64x96", "seeds": "1-2"}
    text = (
        b'[{"prompt": "a", "model": "qwen-image"}, {"prompt": "b", "seed": 9}, {"prompt": "c", "width": 32}]'
    )
    read = fields("a.json", text, defaults=given)
    assert [(one["prompt"], one["model"], one["width"], one["height"], one["seed"]) for one in read] == [
        ("a", "qwen-image", 64, 96, 1),
        ("a", "qwen-image", 64, 96, 2),
        ("b", "demo", 64, 96, 9),
        ("c", "demo", 32, 96, 1),
        ("c", "demo", 32, 96, 2),
    ]
    with pytest.raises(UsageError, match=r"^size: 'big' is not WIDTHxHEIGHT"):
        read_rows("a.txt", b"a fox", HERE, defaults={"size": "big"})


def test_pictures_lie_beside_the_file() -> None:
    sha = "0123456789abcdef" * 4
    row = {"prompt": "a hat", "references": ["a.png", sha, "/b.png"]}
    (read,) = read_rows("a.jsonl", json.dumps(row).encode(), Path("files"))
    assert read.fields["references"] == [Path("files/a.png"), sha, Path("/b.png")]


def test_what_is_not_a_line_end_splits_no_line() -> None:
    odd = "a\u2028b\u0085c"
    assert fields("a.txt", odd.encode()) == [{"prompt": odd}]
    assert fields("a.jsonl", json.dumps({"prompt": odd}, ensure_ascii=False).encode()) == [{"prompt": odd}]


def test_a_row_tells_all_that_is_wrong_in_it() -> None:
    (row,) = read_rows("a.csv", b"prompt,seed,steps,keep_aspect\na fox,x,1e3,maybe", HERE)
    assert [(fault.place.line, fault.place.column) for fault in row.faults] == [
        (2, "seed"),
        (2, "steps"),
        (2, "keep_aspect"),
    ]


def test_of_many_faults_twenty_are_told() -> None:
    told = str(FaultyRowsError([Fault(Place(n), "is bad") for n in range(1, 28)], 26)).split("\n")
    assert told[0] == "26 rows are refused, and nothing was sent:"
    assert told[1] == "line 1: is bad"
    assert told[SHOWN:] == [f"line {SHOWN}: is bad", "and 7 more"]


def test_a_fault_shows_neither_controls_nor_megabytes() -> None:
    text = json.dumps({"prompt": "x", "\x1b[31m" + "y" * 10_000: 1})
    (row,) = read_rows("a.jsonl", text.encode(), HERE)
    assert str(row.faults[0]).isprintable()
    assert len(str(row.faults[0])) <= 300


BOMBS = [
    ("yaml", "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(9))),
    ("yaml", "- " + "[" * 5000),
    ("yaml", "- " + "{a: " * 5000),
    ("yaml", "- !!python/object/apply:os.system [id]"),
    ("yaml", "- prompt: &x [*x]"),
    ("yaml", "- {[a]: b}"),
    ("yaml", "- prompt: a\x07b"),
    ("yaml", "- prompt: " + "9" * 5000 + "\n  seed: " + "9" * 5000),
    ("json", "[" * 100_000),
    ("json", '{"a":' * 100_000),
    ("json", '[{"prompt": "x", "seed": ' + "9" * 5000 + "}]"),
    ("jsonl", '{"prompt": "x", "seed": ' + "9" * 5000 + "}"),
    ("csv", 'prompt\n"' + "x" * 200_000 + '"'),
    ("json", '{"defaults": 5, "jobs": []}'),
    ("json", '{"defaults": {"promt": 1}, "jobs": ["a"]}'),
    ("json", '{"jobs": {"prompt": "x"}}'),
    ("jsonl", '{"prompt": "x", "fill": [1]}'),
    ("jsonl", '{"prompt": "{x}", "fill": {"x": [true]}}'),
    ("jsonl", '{"prompt": "x", "size": 5}'),
    ("jsonl", '{"prompt": "x", "sizes": [[1, 2]]}'),
    ("jsonl", '{"prompt": "x", "seeds": {}}'),
    ("jsonl", '{"prompt": "x", "seeds": "0-99999999999"}'),
    ("jsonl", '{"prompt": "x", "references": ["\\u0000"]}'),
    ("jsonl", '{"": 1}'),
]


@pytest.mark.parametrize(("suffix", "text"), BOMBS)
def test_what_means_harm_or_nothing_is_refused_in_words(suffix: str, text: str) -> None:
    rows = outcome(f"a.{suffix}", text.encode())
    if isinstance(rows, str):
        assert rows.isprintable()
    elif "9" * 5000 not in text:  # which the spec refuses
        assert [row for row in rows if row.faults or not isinstance(row.fields["prompt"], str)]


def test_more_jobs_than_a_file_may_have_are_counted_not_made() -> None:
    row = {"prompt": "{a}", "fill": {"a": [str(n) for n in range(1000)]}, "seeds": "0-99999"}
    with pytest.raises(UsageError, match=f"100,000,000 jobs when expanded; a file has {MAX_JOBS:,}"):
        expand(read_rows("a.jsonl", json.dumps(row).encode(), HERE))


def test_what_is_filled_in_is_not_filled_again() -> None:
    row = {"prompt": "{a}{b}", "fill": {"a": ["{b}"], "b": ["x", 7]}, "label.set": "{b}"}
    read = fields("a.jsonl", json.dumps(row).encode())
    assert [(one["prompt"], one["labels"]["set"]) for one in read] == [("{b}x", "x"), ("{b}7", "7")]


# PyYAML writes 0E0 without quotes, which is a number since YAML 1.2.
PROMPTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: text.strip() and not re.match(r"[-+.\d]", text)
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"prompt": PROMPTS},
        optional={
            "seed": st.integers(0, 2**53 - 1),
            "guidance": st.floats(0, 20),
            "keep_aspect": st.booleans(),
            "model": st.sampled_from(["demo", "qwen-image"]),
        },
    ),
    min_size=1,
    max_size=4,
)


def written(rows: list[dict[str, Any]], kind: reading.Format) -> bytes:
    if kind == "json":
        return json.dumps(rows, ensure_ascii=False).encode()
    if kind == "jsonl":
        return "\r\n".join(json.dumps(row) for row in rows).encode()
    if kind == "yaml":
        return yaml.safe_dump(rows, allow_unicode=True).encode()
    text = io.StringIO(newline="")
    names = ["prompt", "seed", "guidance", "keep_aspect", "model"]
    writer = csv.DictWriter(text, names, delimiter="\t" if kind == "tsv" else ",")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-16")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "yaml"])
@settings(max_examples=30, deadline=None)
@given(rows=ROWS)
def test_rows_come_back_as_they_were_written(kind: reading.Format, rows: list[dict[str, Any]]) -> None:
    assert fields("a", written(rows, kind), format=kind) == rows


@settings(max_examples=100, deadline=None)
@given(data=st.one_of(st.binary(), st.text().map(str.encode)), kind=st.sampled_from(reading.FORMATS))
def test_whatever_a_file_holds_is_read_or_refused(data: bytes, kind: reading.Format) -> None:
    told = outcome("a", data, format=kind)
    if isinstance(told, str):
        assert "\n".join(map(plain, told.split("\n"))) == told
