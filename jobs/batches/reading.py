"""A file of jobs, whichever kind it is, to rows."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pixelkiln.jobs.batches.columns import over, row_of
from pixelkiln.jobs.batches.formats import json_text, table, text, yaml_text
from pixelkiln.jobs.batches.rows import MAX_JOBS, Fault, FaultyRowsError, Place, Row
from pixelkiln.jobs.errors import UsageError

Format = Literal["csv", "tsv", "jsonl", "json", "yaml", "text"]
FORMATS: tuple[Format, ...] = get_args(Format)
MAX_BYTES = 256 * 2**20  # of a file

_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
}
_READERS: dict[Format, Callable[[str, Path], Iterable[Row]]] = {
    "csv": table.read,
    "tsv": table.read,
    "jsonl": json_text.read_lines,
    "json": json_text.read_document,
    "yaml": yaml_text.read,
    "text": text.read,
}
_MARKS = (  # UTF-32's first: it begins as UTF-16's does
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_rows(
    name: str,
    data: bytes,
    folder: Path,
    *,
    format: Format | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> list[Row]:
    """The rows of a file's bytes; each tells what is at fault in it.

    Its kind follows from the suffix of `name`, else from what it holds, unless `format` says it. References
    that are paths lie below `folder`. `defaults` go for rows that say nothing else.
    Raises FaultyRowsError where it is no file of its kind, and UsageError where it holds no jobs, or more
    than MAX_JOBS, whose rest is not read.
    """
    decoded = decode(data)
    kind = format or _SUFFIXES.get(Path(name).suffix.lower()) or guessed(decoded)
    rows, jobs = [], 0
    for row in _READERS[kind](decoded, folder):
        seeds = row.fields.get("seed")  # a few characters may be a hundred thousand of them
        jobs += len(seeds) if isinstance(seeds, list) else 1
        if jobs > MAX_JOBS:
            raise UsageError(f"{name}: is more than {MAX_JOBS:,} jobs, the most that a file has")
        rows.append(row)
    if not rows:
        raise UsageError(f"{name}: holds no jobs")
    if defaults:
        base = row_of(defaults, None, folder)
        if base.faults:
            raise FaultyRowsError(base.faults)
        rows = [over(base, row) for row in rows]
    return rows


def decode(data: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 or -32 by its byte order mark. Raises FaultyRowsError."""
    mark, encoding = next((one for one in _MARKS if data.startswith(one[0])), (b"", "utf-8"))
    if not mark and b"\0" in data[:2]:  # text in UTF-16 whose mark was lost begins so
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start + len(mark)) + 1
        told = f"is not {encoding.upper().replace('-LE', '').replace('-BE', '')} text; save the file as UTF-8"
        raise FaultyRowsError([Fault(Place(line), told)]) from None


def guessed(text: str) -> Format:
    """The kind of a text by how it begins."""
    begin = re.search(r"\S[^\n]*", text)
    first = begin[0].rstrip() if begin else ""
    if re.match(r"\{\s*(\"|$)", first):
        return "text" if _is_json(first) else "json"  # a line that is an object is read there, too
    if re.match(r"\[\s*([\"{\]]|$)", first) and re.match(r"\s*\[\s*[\"{\]]", text):
        return "json"
    if re.match(r"---(\s|$)|%YAML |(defaults|jobs):(\s|$)|- prompts?:\s", first):
        return "yaml"
    return "csv" if table.is_table(text) else "text"


def _is_json(line: str) -> bool:
    try:
        json_text.Bound().take(line)
        json_text.DECODER.decode(line)
    except (ValueError, RecursionError, UsageError):
        return False
    return True
