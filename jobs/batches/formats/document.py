"""The shape of a JSON or YAML file: a list of jobs, or `defaults` and `jobs`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pixelkiln.jobs.batches import columns
from pixelkiln.jobs.batches.rows import Fault, FaultyRowsError, Place, Row
from pixelkiln.jobs.hints import nearest

_SHAPE = ("defaults", "jobs")


class Lined(list[Any]):
    """A list that knows in which line each of its members begins."""

    def __init__(self, members: Iterable[Any] = ()) -> None:
        super().__init__(members)
        self.lines: list[int] = []


def rows_of(value: Any, line: int, folder: Path) -> list[Row]:
    """The rows of a document: a list of jobs, `defaults` and `jobs`, or one job. Raises FaultyRowsError."""
    if isinstance(value, dict) and set(_SHAPE) & value.keys():
        return _with_defaults(value, line, folder)
    if isinstance(value, dict):
        value, lines = [value], [line]
    elif isinstance(value, Lined):
        lines = value.lines
    else:
        raise FaultyRowsError([Fault(Place(line), "must be a list of jobs, or defaults: and jobs:")])
    return [row_of(one, where, folder) for one, where in zip(value, lines, strict=True)]


def row_of(value: Any, line: int, folder: Path) -> Row:
    """The row of an object of fields, or of a text, which is a prompt."""
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict):
        return Row({}, Place(line), (Fault(Place(line), "is not an object of fields"),))
    return columns.row_of(value, line, folder)


def _with_defaults(value: dict[str, Any], line: int, folder: Path) -> list[Row]:
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
    rows = [row_of(one, where, folder) for one, where in zip(jobs, jobs.lines, strict=True)]
    return [columns.over(defaults, row) for row in rows]
