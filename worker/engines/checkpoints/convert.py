"""Makes a checkpoint folder of another one, of fewer bits.

Tensors stream from file to file in blocks of rows. kiln.json is written last, into a folder that takes its
name after that: whatever ends a conversion, what carries the target's name is whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Protocol

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.files import read_file, read_json, write_json
from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
from pixelkiln.worker.engines.checkpoints.quantize import Widths, quantize
from pixelkiln.worker.engines.checkpoints.shards import SHARD_BYTES, Group, Piece, write
from pixelkiln.worker.engines.checkpoints.staging import staged
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.family import Progress
from pixelkiln.worker.host import durable

BLOCK_BYTES = 16 * 2**20  # of a tensor, read at once
BESIDE = ("*.json", "*.jinja", "*.txt", "LICENSE*")  # small files to take along

_NUMPY = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}


class Delta(Protocol):
    """What is added to one matrix."""

    def rows(self, first: int, count: int) -> mx.array:
        """(count, columns) float32, of some of its rows."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """One folder of a checkpoint: the tensors to keep, by the names they get, and the rule for them."""

    stored: Mapping[str, Stored]
    widths: Widths | None = None  # None keeps every value
    quantised: frozenset[int] = frozenset()  # bits of what is stored quantised already
    name: str = ""  # of the folder below the checkpoint's; '' is the checkpoint itself
    deltas: Mapping[str, Delta] = field(default_factory=dict)  # added to matrices before they are rounded


def convert(
    source: Path,
    target: Path,
    manifest: Manifest,
    parts: Sequence[Part],
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write the parts of `source` as a new folder `target` and return its kiln.json.

    That is `manifest` with the digest of what was written. Raises CheckpointError for a source that is
    quantised to other bits already, a target that exists and a disk too small; nothing is left of what was
    begun.
    """
    planned = [_Planned(source, part) for part in sorted(parts, key=lambda part: part.name)]
    size = sum(group.size for one in planned for group in one.groups)
    total = hashlib.sha256()
    with staged(target, size) as folder:
        done = 0

        def report(name: str, written: int) -> None:
            nonlocal done
            done += written
            if progress is not None:
                progress(name, done, size)

        for one in planned:
            name = one.part.name
            (folder / name).mkdir(parents=True, exist_ok=True)
            if one.groups:
                write(folder / name, one.groups, report, total, shard_bytes=shard_bytes, under=name)
            _copy_beside(source, folder, name, one.rule, one.part.stored)
            durable.sync_path(folder / name)
        manifest = manifest.model_copy(update={"digest": f"sha256:{total.hexdigest()}"})
        write_json(folder / NAME, manifest.model_dump(by_alias=True))
    return manifest


class _Planned:
    """A part, the rule it is quantised by (None: it is copied as it is), and what will be written of it."""

    def __init__(self, source: Path, part: Part) -> None:
        self.part = part
        self.rule = _as_stored(source, part.quantised, part.widths)
        # In order of names: equal weights give equal bytes however the source orders and divides them.
        tensors = [replace(part.stored[name], name=name) for name in sorted(part.stored, key=_order)]
        self.groups = [_group(one, self.rule, part.quantised, part.deltas.get(one.name)) for one in tensors]


def _as_stored(source: Path, widths: frozenset[int], asked: Widths | None) -> Widths | None:
    """The rule to quantise by; None where nothing is asked, or the source is quantised so already."""
    if not widths or asked is None:
        return asked
    if min(widths) != asked.bits or (len(widths) > 1) != asked.mixed:
        stored = " and ".join(map(str, sorted(widths)))
        raise CheckpointError(
            f"{source} is quantised to {stored} bits, which cannot be undone: convert the 16-bit release"
        )
    return None


def _order(name: str) -> tuple[str, int]:
    stem, _, kind = name.rpartition(".")
    kinds = ("weight", "scales", "biases", "bias")
    return (stem, kinds.index(kind)) if kind in kinds else (name, len(kinds))


def _group(stored: Stored, widths: Widths | None, quantised: frozenset[int], delta: Delta | None) -> Group:
    bits = None if widths is None else widths.of(stored.name)
    if stored.dtype not in _NUMPY:
        if not quantised or stored.dtype != "U32":
            raise CheckpointError(f"{stored.file}: tensor {stored.name} is {stored.dtype}, expected a float")
        return Group((Piece(stored.name, "U32", stored.shape),), partial(_raw, stored))
    if widths is None or bits is None:
        written = partial(_rounded, stored) if delta is None else partial(_added, stored, delta)
        return Group((Piece(stored.name, "BF16", stored.shape),), written)
    rows, columns = stored.shape
    group_size = widths.group(columns)
    if group_size is None:
        raise CheckpointError(
            f"{stored.file}: tensor {stored.name} has {columns} columns, no multiple of {widths.group_size}"
        )
    stem, groups = stored.name.removesuffix(".weight"), columns // group_size
    pieces = (
        Piece(stored.name, "U32", (rows, columns * bits // 32)),
        Piece(f"{stem}.scales", "BF16", (rows, groups)),
        Piece(f"{stem}.biases", "BF16", (rows, groups)),
    )
    return Group(pieces, partial(_quantized, stored, group_size, bits, delta))


def _raw(stored: Stored) -> Iterator[memoryview]:
    for first in range(0, stored.size, BLOCK_BYTES):
        count = min(BLOCK_BYTES, stored.size - first)
        yield np.fromfile(stored.file, np.uint8, count, offset=stored.start + first).data


def _rounded(stored: Stored) -> Iterator[memoryview]:
    if stored.dtype == "BF16":
        yield from _raw(stored)
        return
    total = prod(stored.shape)
    step = BLOCK_BYTES // np.dtype(_NUMPY[stored.dtype]).itemsize
    for first in range(0, total, step):
        yield _bytes(_read(stored, first, min(step, total - first)))


def _added(stored: Stored, delta: Delta) -> Iterator[memoryview]:
    yield from map(_bytes, _rows(stored, delta))


def _rows(stored: Stored, delta: Delta | None) -> Iterator[mx.array]:
    """A matrix in blocks of rows, as bfloat16."""
    rows, columns = stored.shape
    step = max(1, BLOCK_BYTES * rows // stored.size)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        weight = _read(stored, first * columns, count * columns).reshape(count, columns)
        if delta is not None:
            weight = (weight.astype(mx.float32) + delta.rows(first, count)).astype(mx.bfloat16)
        yield weight


def _quantized(stored: Stored, group_size: int, bits: int, delta: Delta | None) -> Iterator[memoryview]:
    scales, biases = [], []
    for weight in _rows(stored, delta):
        packed, *rest = map(_bytes, quantize(weight, group_size, bits))
        yield packed
        scales.append(rest[0])
        biases.append(rest[1])
    yield from scales
    yield from biases


def _read(stored: Stored, first: int, count: int) -> mx.array:
    """Some of a tensor's values, flat, as bfloat16."""
    kind = np.dtype(_NUMPY[stored.dtype])
    values = mx.array(np.fromfile(stored.file, kind, count, offset=stored.start + first * kind.itemsize))
    return values.view(mx.bfloat16) if stored.dtype == "BF16" else values.astype(mx.bfloat16)


def _bytes(array: mx.array) -> memoryview:
    return np.array(array.flatten().view(mx.uint8)).data


def _copy_beside(
    checkpoint: Path, target: Path, name: str, widths: Widths | None, stored: Mapping[str, Stored]
) -> None:
    """Copy the small files of one of a checkpoint's folders, none that leads out of the checkpoint."""
    source, folder = checkpoint / name, target / name
    for path in sorted({path for pattern in BESIDE for path in source.glob(pattern)}):
        foreign = path.name.startswith(".") or path.name.endswith(".safetensors.index.json")
        if path.name not in (NAME, "config.json") and not foreign:
            _check_inside(checkpoint, path)
            durable.write(folder / path.name, read_file(path))
    if (source / "config.json").exists():
        _check_inside(checkpoint, source / "config.json")
        config = read_json(source / "config.json")
        if widths is not None and widths.bits != 16:
            config["quantization"] = widths.described(stored)
        write_json(folder / "config.json", config)


def _check_inside(checkpoint: Path, path: Path) -> None:
    """Links are followed within the checkpoint, and to the blobs of its own repository in the hub's cache."""
    home, found = checkpoint.resolve(), path.resolve()
    blobs = [home.parents[1] / "blobs"] if home.parent.name == "snapshots" else []
    if not any(found.is_relative_to(root) for root in (home, *blobs)):
        raise CheckpointError(f"{path} is a link out of its folder: put the file itself there, or remove it")
