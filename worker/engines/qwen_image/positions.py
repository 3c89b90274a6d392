"""Where every token stands for the denoiser: (picture, row, column), each picture centred on its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelkiln.worker.engines.mlx.rotary import Pairs, angles, pairs
from pixelkiln.worker.engines.qwen_image.config import TransformerConfig
from pixelkiln.worker.engines.qwen_image.packing import Grid
from pixelkiln.worker.engines.qwen_image.tokens import Positions

THETA = 10000.0


def positions(text: int, grids: Sequence[Grid]) -> Positions:
    """(3, tokens) of a prompt's tokens, then of the target's and each reference's, `grids` in that order."""
    first = max(max(rows // 2, columns // 2) for rows, columns in grids)
    parts = [np.tile(np.arange(first, first + text, dtype=np.int32), (3, 1))]
    for number, (rows, columns) in enumerate(grids):
        row, column = np.indices((rows, columns), np.int32).reshape(2, -1)
        above, left = rows - rows // 2, columns - columns // 2
        parts.append(np.stack([np.full_like(row, number), row - above, column - left]))
    return np.concatenate(parts, axis=1)


def rotation(config: TransformerConfig, text: int, grids: Sequence[Grid]) -> Pairs:
    """The rotation of all tokens of one forward."""
    return pairs(angles(positions(text, grids).T, config.axes, THETA))
