"""Makes a checkpoint folder of another one: released names, fewer bits, nothing that inference never uses.

Tensors stream from file to file in blocks of rows. kiln.json is written last, into a folder that takes its
name after that: whatever ends a conversion, what carries the target's name is whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.headers import Headers
from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
from pixelkiln.worker.engines.checkpoints.quantize import Widths, quantize
from pixelkiln.worker.engines.checkpoints.shards import SHARD_BYTES, Group, Piece, write, write_json
from pixelkiln.worker.engines.checkpoints.staging import staged
from pixelkiln.worker.engines.checkpoints.weights import INDEX, Stored
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream.config import Config, read_json
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.sources import SOURCES

Progress = Callable[[str, int, int], None]  # tensor just written, bytes written so far, bytes in all

BLOCK_BYTES = 16 * 2**20  # of a tensor, read at once
UNUSED = ("lm_head.",)  # no part of inference reads it
BESIDE = ("*.json", "*.jinja", "*.txt", "LICENSE*")  # small files to take along

_NUMPY = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}


def convert(
    source: Path,
    target: Path,
    bits: int,
    *,
    group_size: int = 64,
    mixed: bool = False,
    model: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write `source`, of either layout, as a new folder `target` and return its kiln.json.

    16 bits keep every value, as bfloat16. `model` says whose recipe the weights follow where `source` has no
    kiln.json. Raises CheckpointError for a source that does not fit its config, a source that is quantised
    to other bits already, a target that exists and a disk too small; nothing is left of what was begun.
    """
    manifest = _origin(source, model, revision)
    config = Config.read(source)
    widths = Widths(bits, config.text.num_hidden_layers, group_size, mixed)
    headers = Headers(source)
    Model(source, config, mx.bfloat16, headers)  # tells of a tensor missing, misshapen or too many
    stored = {name: one for name, one in headers.stored.items() if not name.startswith(UNUSED)}
    rule = _as_stored(source, headers.widths, widths)
    # In order of names, so that equal weights give equal bytes however the source orders and divides them.
    groups = [_group(replace(stored[name], name=name), rule) for name in sorted(stored, key=_order)]
    total = sum(group.size for group in groups)
    with staged(target, total) as folder:
        done = 0

        def report(name: str, size: int) -> None:
            nonlocal done
            done += size
            if progress is not None:
                progress(name, done, total)

        made = write(folder, groups, report, shard_bytes)
        _copy_beside(source, folder, rule, stored)
        manifest = manifest.model_copy(update={"bits": bits, "mixed": mixed, "digest": made})
        write_json(folder / NAME, manifest.model_dump(by_alias=True))
    return manifest


def _origin(source: Path, model: str | None, revision: str | None) -> Manifest:
    if (source / NAME).exists():
        known = Manifest.read(source)
        if model not in (None, known.model):
            raise CheckpointError(f"{source / NAME} says {known.model}, not {model}")
        return known
    if model not in SOURCES:
        raise CheckpointError(
            f"{source} has no {NAME}, so nothing says which model its weights are: name one of "
            f"{', '.join(SOURCES)}"
        )
    published = SOURCES[model]
    return Manifest(
        model=model,
        recipe=published.recipe,
        bits=16,
        source=source.resolve().name if revision is None else published.repo_id,
        revision=revision or "unknown",
        digest="sha256:" + "0" * 64,
    )


def _as_stored(source: Path, widths: set[int], asked: Widths) -> Widths | None:
    """The rule to quantise by; None where the source is quantised as asked, and so copied."""
    if not widths:
        return asked
    if min(widths) != asked.bits or (len(widths) > 1) != asked.mixed:
        stored = " and ".join(map(str, sorted(widths)))
        raise CheckpointError(
            f"{source} is quantised to {stored} bits, which cannot be undone: convert the 16-bit release"
        )
    return None


def _order(name: str) -> tuple[str, int]:
    stem, _, kind = name.rpartition(".")
    return stem, ("weight", "scales", "biases", "bias").index(kind)


def _group(stored: Stored, widths: Widths | None) -> Group:
    bits = None if widths is None else widths.of(stored.name)
    if stored.dtype not in _NUMPY:
        if widths is not None or stored.dtype != "U32":
            raise CheckpointError(f"{stored.file}: tensor {stored.name} is {stored.dtype}, expected a float")
        return Group((Piece(stored.name, "U32", stored.shape),), partial(_raw, stored))
    if widths is None or bits is None:
        return Group((Piece(stored.name, "BF16", stored.shape),), partial(_rounded, stored))
    rows, columns = stored.shape
    if columns % widths.group_size:
        raise CheckpointError(
            f"{stored.file}: tensor {stored.name} has {columns} columns, no multiple of {widths.group_size}"
        )
    stem, groups = stored.name.removesuffix(".weight"), columns // widths.group_size
    pieces = (
        Piece(stored.name, "U32", (rows, columns * bits // 32)),
        Piece(f"{stem}.scales", "BF16", (rows, groups)),
        Piece(f"{stem}.biases", "BF16", (rows, groups)),
    )
    return Group(pieces, partial(_quantized, stored, widths.group_size, bits))


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


def _quantized(stored: Stored, group_size: int, bits: int) -> Iterator[memoryview]:
    rows, columns = stored.shape
    step = max(1, BLOCK_BYTES * rows // stored.size)
    scales, biases = [], []
    for first in range(0, rows, step):
        count = min(step, rows - first)
        weight = _read(stored, first * columns, count * columns).reshape(count, columns)
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


def _copy_beside(source: Path, folder: Path, widths: Widths | None, names: Iterable[str]) -> None:
    for path in sorted({path for pattern in BESIDE for path in source.glob(pattern)}):
        if path.name not in (NAME, INDEX, "config.json"):
            shutil.copyfile(path, folder / path.name)
    config = read_json(source / "config.json")
    if widths is not None and widths.bits != 16:
        config["quantization"] = widths.described(names)
    write_json(folder / "config.json", config)
