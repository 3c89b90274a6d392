"""CSV as RFC 4180 says it, and tables with tabs or semicolons as spreadsheets write them, headers first."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from pixelkiln.jobs.batches.columns import meant, row_of_pairs
from pixelkiln.jobs.batches.formats.lines import bounded
from pixelkiln.jobs.batches.rows import MAX_FIELDS, Fault, FaultyRowsError, Place, Row
from pixelkiln.jobs.errors import UsageError

_DELIMITERS = (",", ";", "\t")
_WORDS = {  # what the csv module finds, as one meets it
    "unexpected end of data": "a quotation mark opens a cell that nothing closes",
    "expected after": 'text behind a closing quotation mark; within quotes write "" for one',
    "field limit": f"a cell of more than {csv.field_size_limit():,} characters; is a quotation mark open?",
}


def read(text: str, folder: Path) -> Iterator[Row]:
    """The rows below the header, blank ones left out. Raises FaultyRowsError for a table that is none."""
    said = re.match(r"sep=(.)(?:\r\n|\n|\r)", text)  # Excel's own first line
    start = said.end() if said else 0
    delimiter = said[1] if said else max(_DELIMITERS, key=lambda one: _known(_header(text, one)))
    records = _records(text[start:], delimiter, 1 if said else 0)
    line, header = next(records, (1, []))
    if (many := sum(bool(name.strip()) for name in header)) > MAX_FIELDS:
        told = f"names {many:,} columns; a row has {MAX_FIELDS:,} fields at most"
        raise FaultyRowsError([Fault(Place(line), told)])
    faults = [fault for number, name in enumerate(header, 1) if (fault := _fault(number, name, line))]
    if not faults and not _known(header):
        faults.append(Fault(Place(line), "names no columns; the first row does, for instance: prompt,seed"))
    if faults:
        raise FaultyRowsError(faults)
    for line, cells in records:
        yield _row(header, cells, line, folder)


def is_table(text: str) -> bool:
    """Whether the text begins with a row of at least two names that columns have, `prompt` among them."""
    for delimiter in _DELIMITERS:
        header = _header(text, delimiter)
        if len(header) > 1 and _known(header) == len(header) and "prompt" in map(_field, header):
            return True
    return False


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(_records(text, delimiter, 0), (0, []))[1]
    except FaultyRowsError:
        return []


def _known(header: Sequence[str]) -> int:
    return sum(bool(_field(name)) for name in islice(filter(str.strip, header), MAX_FIELDS))


def _field(name: str) -> str:
    try:
        return meant(name)[0]
    except UsageError:
        return ""


def _fault(number: int, name: str, line: int) -> Fault | None:
    """What is wrong with a column's name; one without any may stay while nothing is below it."""
    if not name.strip():
        return None
    try:
        field, member = meant(name)
    except UsageError as error:
        return Fault(Place(line, name.strip()), str(error))
    if field in ("labels", "fill") and not member:
        return Fault(Place(line, name.strip()), f"a column is one of them; call it {name.strip()}.NAME")
    return None


def _records(text: str, delimiter: str, before: int) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with its first line. Raises FaultyRowsError."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1 + before
    try:
        for count, cells in enumerate(reader):
            bounded(count, line)
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1 + before
    except csv.Error as error:
        told = next((words for found, words in _WORDS.items() if found in str(error)), str(error))
        raise FaultyRowsError([Fault(Place(line), told)]) from None


def _row(header: Sequence[str], cells: Sequence[str], line: int, folder: Path) -> Row:
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        found = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
        told = f"has {found}, the header {len(header)}; commas and new lines in a cell need quotes"
        return Row({}, Place(line), (Fault(Place(line), told),))
    pairs = [(name, cell) for name, cell in zip(header, cells, strict=False) if cell.strip()]
    if not all(name.strip() for name, _ in pairs):
        return Row({}, Place(line), (Fault(Place(line), "has a cell in a column without a name"),))
    return row_of_pairs(pairs, line, folder, cells=True)
