"""Writes safetensors files tensor by tensor, so that only one is ever in memory.

What a file will hold is planned first: its header, and so every file's length, is known before any data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

from pixelkiln.worker.engines.checkpoints.files import write_json
from pixelkiln.worker.engines.checkpoints.stored import INDEX
from pixelkiln.worker.host import durable

SHARD_BYTES = 2 * 10**9
ITEM_BYTES = {"BF16": 2, "U32": 4}


class Hash(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor of the output."""

    name: str
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that are made together; `chunks` yields their bytes in order."""

    pieces: tuple[Piece, ...]
    chunks: Callable[[], Iterable[bytes | memoryview]]

    @property
    def size(self) -> int:
        """Bytes of all its tensors."""
        return sum(piece.size for piece in self.pieces)


def write(
    folder: Path,
    groups: Sequence[Group],
    progress: Callable[[str, int], None],
    total: Hash,
    *,
    shard_bytes: int = SHARD_BYTES,
    under: str = "",
) -> None:
    """Write the groups as model*.safetensors, with an index if more than one, into `folder`.

    `total` takes what manifest.digest hashes; `under` is the folder's place in the checkpoint. Every file is
    on the disk itself on return. `progress` gets a tensor's name and its group's bytes once they are written.
    """
    shards = list(_shards(groups, shard_bytes))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = (
            f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        )
        weight_map |= {piece.name: name for group in shard for piece in group.pieces}
        header = _header(shard)
        length = len(header) + sum(group.size for group in shard)
        named = (Path(under) / name).as_posix()
        total.update(named.encode() + b"\0" + length.to_bytes(8, "little") + header)
        with (folder / name).open("wb") as file:
            file.write(header)
            for group in shard:
                for chunk in group.chunks():
                    total.update(chunk)
                    file.write(chunk)
                progress(group.pieces[0].name, group.size)
            if file.tell() != length:
                raise AssertionError(f"{name} has {file.tell()} bytes, planned {length}")
            file.flush()
            durable.sync(file.fileno())
    if len(shards) > 1:
        size = sum(group.size for group in groups)
        write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})


def _shards(groups: Sequence[Group], limit: int) -> Iterator[list[Group]]:
    shard: list[Group] = []
    size = 0
    for group in groups:
        if shard and size + group.size > limit:
            yield shard
            shard, size = [], 0
        shard.append(group)
        size += group.size
    yield shard


def _header(shard: Sequence[Group]) -> bytes:
    entries, at = {}, 0
    for piece in (piece for group in shard for piece in group.pieces):
        end = at + piece.size
        entries[piece.name] = {"dtype": piece.dtype, "shape": piece.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps({"__metadata__": {"format": "mlx"}, **entries}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
