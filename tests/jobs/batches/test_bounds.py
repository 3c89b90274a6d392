"""Files that would cost far more to read than to send: each of these takes what its size does, not more.

None is timed. What a reader does for them grows with their size; where it grew with its square, or with what
they stand for, one of them took minutes, or more memory than there is.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelkiln.jobs import UsageError
from pixelkiln.jobs.batches import reading
from pixelkiln.jobs.batches.formats import document, lines, text
from pixelkiln.jobs.batches.reading import read_rows
from pixelkiln.jobs.batches.rows import MAX_DEPTH, MAX_FIELDS, MAX_JOBS, Row
from pixelkiln.jobs.batches.sweeps import expand

HERE = Path("/")
MANY = 2_000_000
_USED = Path("/proc/self/statm")  # Linux's


@pytest.fixture
def narrow() -> Iterator[None]:
    """Memory for what is there and one gigabyte more, where that can be told."""
    if not _USED.exists():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(_USED.read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(kind: reading.Format, data: str) -> list[Row]:
    return expand(read_rows("a", data.encode(), HERE, format=kind))


def said(kind: reading.Format, data: str) -> str:
    """The refusal, or the first one of the rows."""
    try:
        return next(str(row.faults[0]) for row in outcome(kind, data) if row.faults)
    except UsageError as error:
        return str(error)


@pytest.mark.parametrize(
    "line",
    [
        "{" + "|" * MANY,
        "{|" * MANY,
        "__a/" * MANY,
        "__*" * MANY + "a",
        "_" * MANY + "a",
        " -a" + "1" * MANY + "x",
        "<lora:" * MANY,
        "{" + " " * MANY,
        '"' * MANY,
    ],
    ids=lambda line: line[:6].strip(),
)
def test_no_line_of_text_is_looked_at_for_long(line: str) -> None:
    assert len(outcome("text", line)) == 1
    for what, _ in text._FOREIGN:
        what.search(line[:200_000])


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a {red|blue} fox", "{red|blue}"),
        ("{a|b|c}", "{a|b|c}"),
        ("{{a|b}", "{a|b}"),
        ("{|}", "{|}"),
        ("a __animal__ fox", "__animal__"),
        ("a __big/animal-*__.", "__big/animal-*__"),
        ("__a/__b__", "__b__"),
        ("__a_b__", "__a_b__"),
        ("__a__b__", "__a__b__"),
        ("{a} | {b}", ""),
        ("{|{|{", ""),
        ("a__b__ __c", ""),
        ("______", "______"),
        ("____", ""),
    ],
)
def test_what_another_program_would_choose_from(prompt: str, found: str) -> None:
    told = text._foreign(prompt)
    assert told.startswith(found) if found else told == ""


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("text", "aa\n" * 2**23),
        ("csv", "prompt\n" + "aa\n" * 2**23),
        ("jsonl", "{}\n" * 2**23),
        ("json", "[" + "{}," * 2**23 + "{}]"),
        ("json", '{"jobs": [' + "{}," * 2**23 + "{}]}"),
        ("yaml", "- a\n" * 2**22),
        ("yaml", "jobs: [" + "a," * 2**23 + "a]"),
        ("jsonl", '{"prompt": "x", "seeds": "0-99999"}\n' * 90_000),
        ("json", '[{"prompt": "x", "seeds": ["0-99999"' + ',"0-99999"' * 90_000 + "]}]"),
    ],
)
def test_one_row_too_many_is_the_last_that_is_read(kind: reading.Format, data: str) -> None:
    told = said(kind, data)
    assert f"{MAX_JOBS:,}" in told
    assert "not JSON" not in told


def test_as_many_as_a_file_may_have_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reading, document):
        monkeypatch.setattr(module, "MAX_JOBS", 3)
    for kind, data in (("text", "a\n" * 3), ("json", '["a","a","a"]'), ("yaml", "[a, a, a]")):
        assert len(read_rows("a", data.encode(), HERE, format=kind)) == 3  # type: ignore[arg-type]
    for kind, data in (("text", "a\n" * 4), ("json", '["a","a","a","a"]'), ("yaml", "[a, a, a, a]")):
        with pytest.raises(UsageError, match="3"):
            read_rows("a", data.encode(), HERE, format=kind)  # type: ignore[arg-type]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "{a}" * 1000, "fill": {"a": ["x" * 10**6, "y"]}}, "far beyond"),
        ({"prompt": "x" * 10**7, "seeds": "0-99999"}, "far beyond"),
        ({"prompt": "x", "seeds": "0-99999", "references": ["0" * 64] * 10**5}, "references: holds 100,000"),
        ({"prompt": "x", "ref": [["0" * 64] * 10**5, []]}, "references: holds 100,000"),
        ({"prompt": "x", "fill": {f"a{n}": "x" for n in range(10**5)}}, "fill: holds 100,000"),
        ({f"a{n}": 1 for n in range(10**5)}, f"a row has {MAX_FIELDS:,} at most"),
        ({f"label.a{n}": "x" for n in range(10**5)}, f"a row has {MAX_FIELDS:,} at most"),
    ],
)
def test_a_row_is_bounded_before_it_is_many(row: dict[str, object], told: str) -> None:
    assert told in said("jsonl", json.dumps(row))
    assert told in said("json", json.dumps([row]))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("- [" + "[]," * 90_000 + "]\n", "1,000,000 lists and mappings"),
        ("- {" + ",".join(f"a{n}: 1" for n in range(90_000)) + "}\n", "more than 1,000 names"),
    ],
)
def test_so_is_all_that_yaml_makes_of_a_file(data: str, told: str) -> None:
    assert told in said("yaml", data * 60)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("kind", ["json", "jsonl", "text"])
def test_and_of_json(kind: reading.Format) -> None:
    line = '{"prompt": "' + '[{,\\"' * 99 + '", "ref": [' + '{"a":0},' * 200_000 + "1]}"
    data = ",".join([line] * 25) if kind == "json" else "\n".join([line] * 25)
    assert "more than 2,000,000 values" in said(kind, f"[{data}]" if kind == "json" else data)


def test_what_stands_in_a_text_is_no_value() -> None:
    prompt = '[{,\\"' * 500_000
    assert outcome("json", json.dumps([prompt]))[0].fields == {"prompt": prompt}


@pytest.mark.parametrize(("kind", "line"), [("text", "# a\n"), ("jsonl", '"a"\n'), ("csv", ",\n")])
def test_lines_have_an_end(kind: reading.Format, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINES", 3)
    header = "prompt,seed\n" if kind == "csv" else ""
    assert "line 4: more than 3 lines" in said(kind, header + line * 4)


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_blank_ones_cost_little_and_count(kind: reading.Format) -> None:
    (row,) = outcome(
        kind, "\n\t \r\n" * MANY + ' "a fox" \r\n' if kind == "jsonl" else "\n \r\r\n" * MANY + " a fox\r"
    )
    assert row.fields == {"prompt": "a fox"}
    assert row.place.line == (2 if kind == "jsonl" else 3) * MANY + 1


@pytest.mark.usefixtures("narrow")
def test_a_file_is_looked_into_where_it_begins() -> None:
    assert reading.guessed("aa\n" * 2**24) == "text"


def test_so_is_a_header() -> None:
    assert "names 262,145 columns" in said("csv", "a,,b" * 2**18 + "\nx")
    assert outcome("csv", "prompt" + "," * 10**6 + "\na fox" + "," * 10**6)[0].fields == {"prompt": "a fox"}


def test_a_name_that_stands_there_twice_is_found_at_once() -> None:
    members = ",".join(f'"a{n}":0' for n in range(300_000))
    assert "'z' stands there twice" in said("jsonl", f'{{{members},"z":0,"z":0}}')


@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 300, 900])
def test_what_is_nested_for_no_purpose_is_refused(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for data in (f'{{"prompt": "x", "ref": {deep}}}', f'{{"prompt": {deep}}}', f'{{"label.x": {deep}}}'):
        assert f"more than {MAX_DEPTH} levels" in said("jsonl", data)
    assert f"more than {MAX_DEPTH} levels" in said(
        "json", f'{{"defaults": {{"ref": {deep}}}, "jobs": ["a"]}}'
    )


def test_numbers_as_long_as_a_page_are_text() -> None:
    assert outcome("yaml", f"- prompt: 0{'1' * 5000}")[0].fields["prompt"] == "0" + "1" * 5000
