"""The pool's files, which training pictures and captions are drawn into, by processes that need no MLX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.tokens import Prompts
from postcards.draw import draw
from postcards.grammar import caption
from postcards.scene import FORMAT_ODDS, FORMATS, SCALES, sample

PATCH = 32
PARTS = tuple((*size, scale) for scale in SCALES for size in FORMATS)  # a scene's width, height; its scale
ODDS = tuple(odds / len(SCALES) for _ in SCALES for odds in FORMAT_ODDS)
ROOM = 56  # tokens of a caption with its chat turn, up to and including boi
WORDINGS = 4  # captions of each scene
TRIES = 12  # for a wording that has room

Bytes = NDArray[np.uint8]
Files = tuple[Bytes, NDArray[np.uint16], Bytes]  # a part's patches, ids and lengths
Work = tuple[Path, Path, int, int, int, int, int, int]


def to_patches(picture: Bytes) -> Bytes:
    """(height, width, 3) to (patches, 3072), as the engine lays them out: channel, row, column."""
    height, width, _ = picture.shape
    rows, columns = height // PATCH, width // PATCH
    split = picture.reshape(rows, PATCH, columns, PATCH, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(split).reshape(rows * columns, -1)


def shares(scenes: int) -> tuple[int, ...]:
    """How many scenes each part gets of so many."""
    return tuple(max(1, round(scenes * odds)) for odds in ODDS)


def open_part(folder: Path, block: int, number: int, count: int, mode: str) -> Files:
    """A part's arrays in their files: (count, patches, 3072), (count, WORDINGS, ROOM), (count, WORDINGS)."""
    width, height, scale = PARTS[number]
    places = width * scale // PATCH * (height * scale // PATCH)

    def array(name: str, dtype: type, shape: tuple[int, ...]) -> NDArray[np.generic]:
        path = folder / f"{block}.{number}.{name}"
        mapped: NDArray[np.generic] = np.memmap(path, dtype, mode, shape=(count, *shape))  # type: ignore[call-overload]
        return mapped

    return (
        array("patches", np.uint8, (places, 3 * PATCH * PATCH)),  # type: ignore[return-value]
        array("ids", np.uint16, (WORDINGS, ROOM)),
        array("lengths", np.uint8, (WORDINGS,)),
    )


def draw_chunk(work: Work) -> None:
    """Draw some scenes of a part into its files."""
    folder, frame, seed, block, number, first, last, count = work
    width, height, scale = PARTS[number]
    patches, all_ids, lengths = open_part(folder, block, number, count, "r+")
    prompts = Prompts(frame, Config.read(frame))
    for row in range(first, last):
        index = (block * count + row) * len(PARTS) + number
        scene = sample(seed, index, (width, height))
        patches[row] = to_patches(draw(scene, scale))
        for wording in range(WORDINGS):
            for attempt in range(TRIES):
                rng = np.random.default_rng([seed, index, 1 + wording + WORDINGS * attempt])
                ids = prompts.encode(caption(scene, rng).text)[:-1]  # the timestep's token is not text
                if len(ids) <= ROOM:
                    break
            else:
                raise ValueError(f"scene {index} of seed {seed} finds no caption of {ROOM} tokens")
            all_ids[row, wording] = np.pad(np.array(ids, np.uint16), (0, ROOM - len(ids)))
            lengths[row, wording] = len(ids)
