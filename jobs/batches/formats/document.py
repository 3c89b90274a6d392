"""The shape of a JSON or YAML file: a list of jobs, or `defaults` and `jobs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pixelkiln.jobs.batches import columns
from pixelkiln.jobs.batches.rows import MAX_JOBS, Fault, FaultyRowsError, Place, Row
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.hints import nearest

_SHAPE = ("defaults", "jobs")


class Lined(list[Any]):
    """A list that knows in which line each of its members begins."""

    def __init__(self, members: Iterable[Any] = ()) -> None:
        super().__init__(members)
        self.lines: list[int] = []

    def add(self, member: Any, line: int) -> None:
        """One more. Raises UsageError for one too many, so that the rest is not even read."""
        if len(self) == MAX_JOBS:
            raise UsageError(f"one more than {MAX_JOBS:,} in a list; a file has {MAX_JOBS:,} jobs at most")
        self.append(member)
        self.lines.append(line)


def rows_of(value: Any, line: int, folder: Path) -> Iterator[Row]:
    """The rows of a document: a list of jobs, `defaults` and `jobs`, or one job. Raises FaultyRowsError."""
    if isinstance(value, dict) and set(_SHAPE) & value.keys():
        yield from _with_defaults(value, line, folder)
        return
    if isinstance(value, dict):
        value, lines = [value], [line]
    elif isinstance(value, Lined):
        lines = value.lines
    else:
        raise FaultyRowsError([Fault(Place(line), "must be a list of jobs, or defaults: and jobs:")])
    for one, where in zip(value, lines, strict=True):
        yield row_of(one, where, folder)


def row_of(value: Any, line: int, folder: Path) -> Row:
    """The row of an object of fields, or of a text, which is a prompt."""
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict):
        return Row({}, Place(line), (Fault(Place(line), "is not an object of fields"),))
    return columns.row_of(value, line, folder)


def _with_defaults(value: dict[str, Any], line: int, folder: Path) -> Iterator[Row]:
    for name in value.keys() - set(_SHAPE):
        near = nearest(name, _SHAPE)
        told = f"did you mean {near}?" if near else "beside jobs there is only defaults"
        raise FaultyRowsError([Fault(Place(line, name[:60]), f"no such part of a file; {told}")])
    given, jobs = value.get("defaults") or {}, value.get("jobs")
    if not isinstance(given, dict):
        raise FaultyRowsError([Fault(Place(line, "defaults"), "must be an object of fields")])
    if not isinstance(jobs, Lined):
        raise FaultyRowsError([Fault(Place(line, "jobs"), "must be a list of jobs")])
    defaults = columns.row_of(given, line, folder)
    if defaults.faults:
        raise FaultyRowsError(
            [Fault(Place(line, f"defaults.{one.place.column}"), one.message) for one in defaults.faults]
        )
    for one, where in zip(jobs, jobs.lines, strict=True):
        yield columns.over(defaults, row_of(one, where, folder))
