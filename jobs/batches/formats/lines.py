"""Lines of a text in which something stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pixelkiln.jobs.batches.rows import MAX_JOBS, Fault, FaultyRowsError, Place

MAX_LINES = 20 * MAX_JOBS  # of a file that are looked at; a spreadsheet's last million may be empty cells


def filled(text: str, line: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """What `line` finds, from its first character that is not blank on, and in which line it is.

    Blank lines cost no more than their characters. Raises FaultyRowsError for more lines than MAX_LINES.
    """
    number, before = 1, 0
    for count, found in enumerate(line.finditer(text)):
        number += text.count("\n", before, found.start())
        before = found.start()
        bounded(count, number)
        yield number, found[0]


def bounded(count: int, number: int) -> None:
    """Raise FaultyRowsError where so many lines came before the one with this number."""
    if count >= MAX_LINES:
        raise FaultyRowsError([Fault(Place(number), f"more than {MAX_LINES:,} lines; split the file")])
