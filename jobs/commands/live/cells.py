"""Text in cells of a terminal: what strangers wrote takes the cells that it is counted for, and no more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from pixelkiln.jobs.plain import plain

# Joiners, variations and skin tones: terminals do not agree how wide they make what stands before them.
_JOINERS = re.compile("[\u200c\u200d\u20e3\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")
_FLAGS = {code: chr(code - 0x1F1E6 + ord("A")) for code in range(0x1F1E6, 0x1F200)}
ROOMY = 120  # cells of a line from which there is room for more columns, and between them

Cell = str | tuple[str, str] | Text  # a text, a text and its style, or what has its column's width


def steady(text: str) -> str:
    """The text on one line, of characters whose width is known."""
    return plain(_JOINERS.sub("", " ".join(text.split())).translate(_FLAGS))


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Exactly so many cells of it; where it is longer it ends in an ellipsis."""
    flat = steady(text)
    if (size := cell_len(flat)) <= width:
        space = " " * (width - size)
        return space + flat if right else flat + space
    return set_cell_size(f"{set_cell_size(flat, width - 1).rstrip()}…", width) if width > 0 else ""


def line(text: str, width: int, style: str = "") -> Text:
    """One text over a whole line."""
    return Text(fit(text, width), style=style, no_wrap=True, end="")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, the cells it takes, and whether its texts stand at the right."""

    title: str
    width: int  # 0: what the others leave
    right: bool = False


class Columns:
    """Rows of columns, each exactly `width` cells wide."""

    def __init__(self, width: int, *columns: Column) -> None:
        self._width = width
        self._gap = 2 if width >= ROOMY else 1
        self._columns = columns
        taken = sum(one.width for one in columns) + self._gap * (len(columns) - 1)
        self._widths = [one.width or max(0, width - taken) for one in columns]

    def heading(self) -> Text:
        """The row of titles."""
        return self.row([one.title for one in self._columns], "bold cyan")

    def row(self, cells: Sequence[Cell], style: str = "") -> Text:
        """Fewer cells than columns: the last goes on to the end of the line."""
        found = Text(style=style, no_wrap=True, end="")
        left = self._width
        for number, cell in enumerate(cells):
            last = number == len(cells) - 1
            goes_on = last and (len(cells) < len(self._columns) or not self._columns[number].width)
            width = left if goes_on else min(left, self._widths[number])
            if isinstance(cell, Text):
                found.append_text(cell[:width])
            else:
                text, own = (cell, "") if isinstance(cell, str) else cell
                found.append(fit(text, width, right=self._columns[number].right), own)
            gap = left - width if last else min(self._gap, left - width)
            found.append(" " * gap)
            left -= width + gap
        return found
