"""What a file of jobs holds, row by row, and what is at fault in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.plain import plain

MAX_JOBS = 100_000  # of one file
MAX_DEPTH = 20  # lists and objects within each other
MAX_FIELDS = 1000  # of a row, labels and fillings each counted
SHOWN = 20  # faults told at once
MAX_SHOWN = 300  # characters of each


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file."""

    line: int | None = None  # from 1; of a row over several, its first
    column: str | None = None  # or field, as it is called there

    def __str__(self) -> str:
        return ": ".join(
            part for part in (f"line {self.line}" if self.line else "", self.column or "") if part
        )


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, where, and what to write."""

    place: Place
    message: str

    def __str__(self) -> str:
        told = ": ".join(part for part in (str(self.place), self.message) if part)
        return plain(told if len(told) <= MAX_SHOWN else told[: MAX_SHOWN - 1] + "…")


@dataclass(frozen=True, slots=True)
class Row:
    """The fields of one job, or of several where some are lists; what is at fault in it so far."""

    fields: dict[str, Any]  # by a spec's names, and `size` or `fill` until they are expanded
    place: Place = field(default=Place())
    faults: tuple[Fault, ...] = ()


class FaultyRowsError(UsageError):
    """Rows of a file are refused, and nothing was sent: all that is wrong, a line each."""

    def __init__(self, faults: Sequence[Fault], rows: int | None = None) -> None:
        """`rows` tells how many are at fault, where that is known."""
        self.faults = tuple(faults)
        heading = f"{refused(rows)}, and nothing was sent:" if rows else f"{len(faults):,} faults:"
        super().__init__(str(faults[0]) if len(faults) == 1 else "\n".join([heading, *told(faults)]))


def refused(rows: int) -> str:
    """How many rows are, in words."""
    return f"{rows:,} {'row is' if rows == 1 else 'rows are'} refused"


def told(faults: Sequence[Fault]) -> list[str]:
    """The faults, a line each; of many, the first."""
    more = len(faults) - SHOWN
    return [*map(str, faults[:SHOWN]), *([f"and {more:,} more"] if more > 0 else [])]
