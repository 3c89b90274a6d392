"""Where every token stands, (t, h, w, l): text on l, the target at t = 0, references behind it on t."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int32]  # (tokens, 4)
Grid = tuple[int, int]  # rows, columns of tokens

APART = 10  # between the target and the first reference on t, and from each reference to the next


def text_positions(count: int) -> Positions:
    """Of a prompt's tokens, pads included."""
    places = np.zeros((count, 4), np.int32)
    places[:, 3] = np.arange(count)
    return places


def picture_positions(target: Grid, references: Sequence[Grid] = ()) -> Positions:
    """Of the target's tokens, then of each reference's, row by row, each from row and column 0."""
    return np.concatenate([_block(APART * at, grid) for at, grid in enumerate((target, *references))])


def _block(t: int, grid: Grid) -> Positions:
    rows, columns = np.indices(grid, np.int32).reshape(2, -1)
    return np.stack([np.full_like(rows, t), rows, columns, np.zeros_like(rows)], axis=1)
