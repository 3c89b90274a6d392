"""Training data: a pool of postcards drawn once by many processes, and batches drawn from it by number.

Scene `index` of a seed is the same wherever it is drawn, and batch `number` takes the same rows of it, so a
resumed run sees what it would have seen.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from postcards.draw import draw
from postcards.grammar import caption
from postcards.scene import FORMAT_ODDS, FORMATS, sample

PATCH = 32
ROOM = 48  # tokens of a caption with its chat turn, up to and including boi
WORDINGS = 3  # captions of each scene
TRIES = 12  # for a wording that has room
CHUNK = 64  # scenes that a process draws at a time

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one training step sees, all of one format."""

    size: tuple[int, int]  # width, height of the pictures
    patches: Bytes  # (batch, patches, 3072)
    ids: NDArray[np.int32]  # (batch, ROOM)
    lengths: NDArray[np.int32]  # (batch,)


@dataclass(frozen=True, slots=True)
class Part:
    """The pool's pictures of one format."""

    size: tuple[int, int]
    patches: Bytes  # (scenes, patches, 3072)
    ids: NDArray[np.uint16]  # (scenes, WORDINGS, ROOM)
    lengths: Bytes  # (scenes, WORDINGS)


def to_patches(picture: Bytes) -> Bytes:
    """(height, width, 3) to (patches, 3072), as the engine lays them out: channel, row, column."""
    height, width, _ = picture.shape
    rows, columns = height // PATCH, width // PATCH
    split = picture.reshape(rows, PATCH, columns, PATCH, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(split).reshape(rows * columns, -1)


def shares(scenes: int) -> tuple[int, ...]:
    """How many scenes each format gets of a pool."""
    return tuple(max(1, round(scenes * odds)) for odds in FORMAT_ODDS)


def make_pool(folder: Path, frame: Path, seed: int, scenes: int, processes: int) -> list[Part]:
    """Draw a pool of about `scenes` into `folder`, or open the one that is there.

    `frame` is the model's folder: its tokenizer encodes the captions.
    """
    counts = shares(scenes)
    facts = {"seed": seed, "counts": counts, "room": ROOM, "wordings": WORDINGS}
    stamp = folder / "pool.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != json.loads(json.dumps(facts)):
        folder.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        need = sum(
            count * (3 * width * height + 1024)
            for count, (width, height) in zip(counts, FORMATS, strict=True)
        )
        if need > shutil.disk_usage(folder).free:
            raise OSError(f"{folder} lacks room for {scenes} postcards, {need / 2**30:.1f} GiB")
        for number, count in enumerate(counts):
            _open(folder, number, count, "w+")
        work = [
            (folder, frame, seed, number, first, min(first + CHUNK, count), count)
            for number, count in enumerate(counts)
            for first in range(0, count, CHUNK)
        ]
        if processes > 1:
            with multiprocessing.get_context("spawn").Pool(processes) as workers:
                for _ in workers.imap_unordered(_draw_chunk, work):
                    pass
        else:
            for one in work:
                _draw_chunk(one)
        stamp.write_text(json.dumps(facts))
    return [_open(folder, number, count, "r") for number, count in enumerate(counts)]


def _open(folder: Path, number: int, count: int, mode: str) -> Part:
    width, height = FORMATS[number]
    places = width // PATCH * (height // PATCH)

    def array(name: str, dtype: type, shape: tuple[int, ...]) -> NDArray[np.generic]:
        path = folder / f"{number}.{name}"
        mapped: NDArray[np.generic] = np.memmap(path, dtype, mode, shape=(count, *shape))  # type: ignore[call-overload]
        return mapped

    return Part(
        size=(width, height),
        patches=array("patches", np.uint8, (places, 3 * PATCH * PATCH)),  # type: ignore[arg-type]
        ids=array("ids", np.uint16, (WORDINGS, ROOM)),  # type: ignore[arg-type]
        lengths=array("lengths", np.uint8, (WORDINGS,)),  # type: ignore[arg-type]
    )


def _draw_chunk(work: tuple[Path, Path, int, int, int, int, int]) -> None:
    from worker.engines.hidream.config import Config
    from worker.engines.hidream.tokens import Prompts

    folder, frame, seed, number, first, last, count = work
    part = _open(folder, number, count, "r+")
    prompts = Prompts(frame, Config.read(frame))
    for row in range(first, last):
        index = row * len(FORMATS) + number
        scene = sample(seed, index, FORMATS[number])
        part.patches[row] = to_patches(draw(scene))
        for wording in range(WORDINGS):
            for attempt in range(TRIES):
                rng = np.random.default_rng([seed, index, 1 + wording + WORDINGS * attempt])
                ids = prompts.encode(caption(scene, rng).text)[:-1]  # the timestep's token is not text
                if len(ids) <= ROOM:
                    break
            else:
                raise ValueError(f"scene {index} of seed {seed} finds no caption of {ROOM} tokens")
            part.ids[row, wording] = np.pad(np.array(ids, np.uint16), (0, ROOM - len(ids)))
            part.lengths[row, wording] = len(ids)


def batch(pool: list[Part], seed: int, number: int, size: int) -> Batch:
    """Training batch `number`: a format by its odds, then rows and wordings by lot."""
    rng = np.random.default_rng([seed, number])
    part = pool[int(rng.choice(len(pool), p=FORMAT_ODDS))]
    rows = rng.integers(len(part.patches), size=size)
    wordings = rng.integers(WORDINGS, size=size)
    return Batch(
        part.size,
        part.patches[rows],
        part.ids[rows, wordings].astype(np.int32),
        part.lengths[rows, wordings].astype(np.int32),
    )


def batches(pool: list[Part], seed: int, first: int, size: int, ahead: int = 4) -> Iterator[Batch]:
    """Batches from number `first` on, without end, gathered ahead by a thread."""
    ready: Queue[Batch] = Queue(ahead)

    def gather() -> None:
        number = first
        while True:
            ready.put(batch(pool, seed, number, size))
            number += 1

    Thread(target=gather, daemon=True).start()
    while True:
        yield ready.get()
