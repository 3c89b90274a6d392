"""JSON as RFC 8259 says it, and JSON Lines: a value a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from pixelkiln.jobs.batches.formats.document import Lined, row_of, rows_of
from pixelkiln.jobs.batches.formats.lines import filled
from pixelkiln.jobs.batches.rows import MAX_JOBS, Fault, FaultyRowsError, Place, Row
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.hints import glimpse

MAX_VALUES = 20 * MAX_JOBS  # of a file: a few characters may be an object, which takes two hundred bytes
_BLANK = re.compile(r"[ \t\n\r]*")
_LINE = re.compile(r"[^ \t\r\n][^\n]*")  # U+2028 may stand in a JSON text
# Up to what begins a list, an object, or one more member; what stands in a text does not.
_VALUE = re.compile(r'(?:[^",\[{]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+(?:[,\[{]|\Z)', re.DOTALL)


class Bound:
    """How many values are still read of a file."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def take(self, text: str) -> None:
        """Count what is to be read. Raises UsageError for more than a file holds."""
        self._left -= sum(1 for _ in islice(_VALUE.finditer(text), self._left + 1))
        if self._left < 0:
            raise UsageError(f"more than {MAX_VALUES:,} values for at most {MAX_JOBS:,} jobs; split the file")


def read_lines(text: str, folder: Path) -> Iterator[Row]:
    """JSON Lines: each is a job's fields, or a prompt; blank ones do not count. Raises FaultyRowsError."""
    bound = Bound()
    for number, line in filled(text, _LINE):
        yield object_row(line.rstrip(" \t\r"), number, folder, bound)


def object_row(line: str, number: int, folder: Path, bound: Bound) -> Row:
    """The row of one JSON value; what is at fault stands in it. Raises FaultyRowsError for one too many."""
    try:
        bound.take(line)
    except UsageError as error:
        raise FaultyRowsError([Fault(Place(number), str(error))]) from None
    try:
        value = DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        comma = "; leave out the comma behind it" if line.endswith("},") else ""
        return Row({}, Place(number), (Fault(Place(number), f"is not JSON: {_fault(error)}{comma}"),))
    except UsageError as error:
        return Row({}, Place(number), (Fault(Place(number), str(error)),))
    return row_of(value, number, folder)


def read_document(text: str, folder: Path) -> Iterator[Row]:
    """One JSON value: a list of jobs, or an object of `defaults` and `jobs`. Raises FaultyRowsError."""
    reader = _Reader(text)
    try:
        value = reader.document()
    except json.JSONDecodeError as error:
        where = Place(reader.line(error.pos))
        lines = "; for a value a line: --format jsonl" if error.msg == "Extra data" else ""
        column = error.pos - text.rfind("\n", 0, error.pos)
        raise FaultyRowsError(
            [Fault(where, f"is not JSON: {error.msg} at character {column}{lines}")]
        ) from None
    except (ValueError, RecursionError) as error:
        raise FaultyRowsError([Fault(Place(reader.line(reader.at)), f"is not JSON: {error}")]) from None
    except UsageError as error:
        raise FaultyRowsError([Fault(Place(reader.line(reader.at)), str(error))]) from None
    return rows_of(value, reader.line(reader.first), folder)


class _Reader:
    """Reads one value, and notes the line in which each member of its lists begins."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.first = text, 0, 0
        self._counted = (0, 1)  # so far, and the line there

    def line(self, at: int) -> int:
        """The line of a position; quick where positions grow."""
        before, line = self._counted if self._counted[0] <= at else (0, 1)
        self._counted = at, line + self.text.count("\n", before, at)
        return self._counted[1]

    def document(self) -> Any:
        """The value of the whole text."""
        self._skip()
        self.first = self.at
        Bound().take(self.text)
        value = self._list() if self._sees("[") else self._object() if self._sees("{") else self._value()
        self._skip()
        if self.at < len(self.text):
            raise json.JSONDecodeError("Extra data", self.text, self.at)
        return value

    def _skip(self) -> None:
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _sees(self, sign: str) -> bool:
        return self.text.startswith(sign, self.at)

    def _take(self, *signs: str) -> str:
        self._skip()
        found = next((sign for sign in signs if self._sees(sign)), None)
        if found is None:
            raise json.JSONDecodeError(f"Expecting {' or '.join(map(repr, signs))}", self.text, self.at)
        self.at += 1
        self._skip()
        return found

    def _value(self) -> Any:
        try:
            value, self.at = DECODER.raw_decode(self.text, self.at)
        except StopIteration as stop:
            raise json.JSONDecodeError("Expecting value", self.text, stop.value) from None
        return value

    def _list(self) -> Lined:
        found = Lined()
        self._take("[")
        if self._sees("]"):
            self._take("]")
            return found
        while True:
            line = self.line(self.at)
            found.add(self._value(), line)
            if self._take(",", "]") == "]":
                return found

    def _object(self) -> dict[str, Any]:
        pairs: list[tuple[str, Any]] = []
        self._take("{")
        if self._sees("}"):
            self._take("}")
            return {}
        while True:
            if not self._sees('"'):
                raise json.JSONDecodeError("Expecting a name in double quotes", self.text, self.at)
            name = self._value()
            self._take(":")
            pairs.append((name, self._list() if self._sees("[") else self._value()))
            if self._take(",", "}") == "}":
                return _once(pairs)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique. Raises UsageError."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(f"{glimpse(name)[:60]} stands there twice; keep one of them")
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise UsageError(f"{text} is no number in JSON; leave it out")


def _fault(error: Exception) -> str:
    """What json found, without its own line number: that is 1 in every line of a file."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return str(error)


DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
