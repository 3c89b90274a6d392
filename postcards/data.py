"""Training data: a pool of postcards drawn once by many processes, and batches chosen from it by number.

Scene `index` of a seed is the same wherever it is drawn. The pool is drawn block after block while training
goes on; which blocks a batch may choose from depends on its number alone, so a resumed run sees what it would
have seen.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from postcards.pool import ODDS, PARTS, ROOM, WORDINGS, Work, draw_chunk, open_part, shares

CHUNK = 64  # scenes that a process draws at a time
BLOCK = 8192  # scenes of all formats and scales that become ready together
PACE = 600  # batches between a block's turn and the next one's


@dataclass(frozen=True, slots=True)
class Part:
    """A block's pictures of one format and scale, where training runs."""

    size: tuple[int, int]  # width, height of the pictures
    scale: int
    patches: mx.array  # (scenes, patches, 3072) uint8
    ids: mx.array  # (scenes, WORDINGS, ROOM) uint16
    lengths: mx.array  # (scenes, WORDINGS) uint8


@dataclass(frozen=True, slots=True)
class Batch:
    """What one training step sees: some rows of a part, each in one of its wordings."""

    part: Part
    rows: mx.array  # (batch,)
    wordings: mx.array  # (batch,)


class Pool:
    """About `scenes` postcards, drawn into `folder` or found there, in blocks that are ready one by one.

    `frame` is the model's folder: its tokenizer encodes the captions. With one process, a block is drawn when
    its turn comes.
    """

    def __init__(self, folder: Path, frame: Path, seed: int, scenes: int, processes: int) -> None:
        self.folder, self.seed = folder, seed
        self.counts = shares(min(scenes, BLOCK))
        self.total = max(1, scenes // BLOCK)
        self.blocks: list[list[Part]] = []
        facts = {"seed": seed, "counts": self.counts, "room": ROOM, "wordings": WORDINGS}
        self.facts = json.loads(json.dumps(facts))
        missing = [block for block in range(self.total) if not self._drawn(block)]
        self._make_room(len(missing))
        work = {block: self._work(frame, block) for block in missing}
        self.left = {block: len(chunks) for block, chunks in work.items()}
        chunks = [chunk for block in missing for chunk in work[block]]
        if processes > 1 and chunks:
            self.workers = multiprocessing.get_context("spawn").Pool(processes)
            self.done: Iterator[None] = self.workers.imap(draw_chunk, chunks)
        else:
            self.done = map(draw_chunk, chunks)

    def batch(self, number: int, size: int) -> Batch:
        """Training batch `number`: a part by its odds, then a block, rows and wordings by lot.

        `size` pictures at scale 1; at another as many as have that many pixels.
        """
        while len(self.blocks) < min(self.total, 1 + number // PACE):
            self.blocks.append(self._ready(len(self.blocks)))
        rng = np.random.default_rng([self.seed, number])
        number_of_part = int(rng.choice(len(PARTS), p=ODDS))
        part = self.blocks[int(rng.integers(min(self.total, 1 + number // PACE)))][number_of_part]
        size = alike(size, part.scale)
        rows = rng.integers(len(part.patches), size=size, dtype=np.uint32)
        return Batch(part, mx.array(rows), mx.array(rng.integers(WORDINGS, size=size, dtype=np.uint32)))

    def _stamp(self, block: int) -> Path:
        return self.folder / f"{block}.json"

    def _drawn(self, block: int) -> bool:
        stamp = self._stamp(block)
        return stamp.exists() and json.loads(stamp.read_text()) == self.facts

    def _make_room(self, blocks: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        sizes = [
            (count, width * height * scale**2)
            for count, (width, height, scale) in zip(self.counts, PARTS, strict=True)
        ]
        need = blocks * sum(count * (3 * pixels + 1024) for count, pixels in sizes)
        if need > shutil.disk_usage(self.folder).free:
            raise OSError(f"{self.folder} lacks room for {need / 2**30:.1f} GiB of postcards")

    def _work(self, frame: Path, block: int) -> list[Work]:
        self._stamp(block).unlink(missing_ok=True)
        for number, count in enumerate(self.counts):
            open_part(self.folder, block, number, count, "w+")
        return [
            (self.folder, frame, self.seed, block, number, first, min(first + CHUNK, count), count)
            for number, count in enumerate(self.counts)
            for first in range(0, count, CHUNK)
        ]

    def _ready(self, block: int) -> list[Part]:
        """Wait until a block is drawn, and load it."""
        for _ in range(self.left.pop(block, 0)):
            next(self.done)
        self._stamp(block).write_text(json.dumps(self.facts))
        parts = []
        for number, count in enumerate(self.counts):
            patches, ids, lengths = (
                mx.array(one) for one in open_part(self.folder, block, number, count, "r")
            )
            # Copied by the device, so that a GPU holds it in memory of its own and not in shared memory.
            width, height, scale = PARTS[number]
            size = width * scale, height * scale
            part = Part(size, scale, patches + mx.array(0, mx.uint8), ids, lengths)
            mx.eval(part.patches)
            parts.append(part)
        mx.clear_cache()
        return parts


def alike(size: int, scale: int) -> int:
    """How many pictures at this scale have the pixels of `size` at scale 1."""
    return max(1, size // scale**2)
