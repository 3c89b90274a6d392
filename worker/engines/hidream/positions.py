"""Where every token stands: (t, h, w) for text, vision-tower images, target and reference patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelkiln.worker.engines.hidream.rope import Positions

TARGET = 4096  # the target's first patch stands here on all three axes, however long the prompt is

Grid = tuple[int, int]  # rows, columns


def _block(start: int, grid: Grid) -> Positions:
    rows, columns = np.indices(grid, np.int32).reshape(2, -1)
    return np.stack([np.full_like(rows, start), start + rows, start + columns])


def _line(start: int, count: int) -> Positions:
    return np.tile(np.arange(start, start + count, dtype=np.int32), (3, 1))


def text_positions(ids: Sequence[int], image_token: int, images: Sequence[Grid] = ()) -> Positions:
    """Positions of the prompt's tokens, (3, tokens).

    `images` are the vision tower's grids after merging, one for each run of `image_token`. An image starts
    where the text before it ends, and the text after it one past its largest position (Qwen3-VL's rule).
    """
    parts: list[Positions] = []
    at, place = 0, 0
    for grid in images:
        begin = ids.index(image_token, at)
        parts += [_line(place, begin - at), _block(place + begin - at, grid)]
        place += begin - at + max(grid)
        at = begin + grid[0] * grid[1]
    return np.concatenate([*parts, _line(place, len(ids) - at)], axis=1)


def patch_positions(target: Grid, references: Sequence[Grid] = ()) -> Positions:
    """Positions of the generated patches, (3, patches): the target's, each reference's past the last."""
    parts = [_block(TARGET, target)]
    for grid in references:
        parts.append(_block(int(parts[-1].max()) + 1, grid))
    return np.concatenate(parts, axis=1)
