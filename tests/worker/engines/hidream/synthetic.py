"""Writes a checkpoint of random weights in the release's layout, sharded, as large as its config makes it.

    python synthetic.py TINY TARGET [KEY=VALUE …]

takes config.json and the tokenizer from the folder TINY, with text_config's entries replaced. `release` in
the place of the entries is the released model's sizes; give num_hidden_layers=… to have less of it. Only one
block of one tensor is ever in memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.random_weights import RandomWeights
from pixelkiln.worker.engines.checkpoints.shards import Group, Piece, write
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.configs import CONFIGS
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.quantize import widths

BLOCK = 2**24  # values


class Asked(RandomWeights):
    """Notes what a model asks for, and makes none of it."""

    def __init__(self) -> None:
        super().__init__(widths(16, 0), mx.bfloat16)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def tensor(self, name: str, shape: Sequence[int]) -> mx.array:
        self.shapes[name] = tuple(shape)
        return mx.zeros(shape, mx.bfloat16)

    def _evaluate(self) -> None:
        pass


def values(piece: Piece, seed: int) -> Iterator[bytes]:
    """Random bfloat16 of mean 0 and a spread that keeps activations finite; norms near 1."""
    random, left = np.random.default_rng(seed), piece.size // 2
    while left:
        count = min(BLOCK, left)
        block = random.standard_normal(min(count, 2**20), np.float32) * (piece.shape[-1] ** -0.5)
        block += 1.0 if "norm" in piece.name else 0.0
        yield (np.resize(block, count).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        left -= count


def entries_of(entry: str) -> dict[str, object]:
    if entry != "release":
        key, _, value = entry.partition("=")
        return {key: int(value)}
    released = asdict(CONFIGS["release"])
    return released | {"rope_scaling": {"mrope_section": released.pop("mrope_section")}}


def main(tiny: Path, target: Path, entries: Sequence[str]) -> None:
    target.mkdir()
    for path in tiny.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, target)
    config = json.loads((tiny / "config.json").read_bytes())
    for entry in entries:
        config["text_config"] |= entries_of(entry)
    (target / "config.json").write_text(json.dumps(config))
    asked, read = Asked(), Config.read(target)
    Model(target, read, mx.bfloat16, asked)
    shapes = {"lm_head.weight": (read.text.vocab_size, read.text.hidden_size), **asked.shapes}
    pieces = [Piece(name, "BF16", shape) for name, shape in shapes.items()]
    write(
        target,
        [Group((piece,), partial(values, piece, i)) for i, piece in enumerate(pieces)],
        lambda *_: None,
        hashlib.sha256(),
    )
    facts = {"schema": 1, "model": "hidream-o1-dev", "recipe": "dev", "bits": 16, "source": "random"}
    (target / "kiln.json").write_text(json.dumps({**facts, "revision": "0", "digest": "sha256:" + "0" * 64}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
