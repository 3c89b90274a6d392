"""Where every token stands: (t, row, column), text along the first axis, the picture behind it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int32]  # (tokens, 3)

MULTIPLE = 32  # each kind of tokens is padded to; pads are learned tokens, and seen


def padded(tokens: int) -> int:
    """How many they are with their pads."""
    return -(-tokens // MULTIPLE) * MULTIPLE


def text_positions(tokens: int) -> Positions:
    """Of the text's tokens and pads: along t, from 1."""
    found = np.zeros((padded(tokens), 3), np.int32)
    found[:, 0] = np.arange(1, len(found) + 1)
    return found


def image_positions(rows: int, columns: int, text: int) -> Positions:
    """Of the picture's patches behind `text` tokens and pads, then of their pads, at the origin."""
    found = np.zeros((padded(rows * columns), 3), np.int32)
    places = np.indices((rows, columns), np.int32).reshape(2, -1).T
    found[: len(places), 1:] = places
    found[: len(places), 0] = 1 + text
    return found
