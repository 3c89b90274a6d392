"""Reads a checkpoint folder: every tensor is checked against the file headers before its bytes are read.

Two layouts load: the release's, whose names are used throughout, and the MLX community's (names of an mlx-vlm
Qwen3-VL folder plus `extras/custom_heads.safetensors`). A saved `.scales` decides what is quantised, and the
stored shapes say to how many bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream.config import read_json
from pixelkiln.worker.engines.mlx.layers import (
    Embedding,
    Linear,
    Quantized,
    RMSNorm,
    Stacked,
    arrays,
    stack,
)

INDEX = "model.safetensors.index.json"
EXTRAS = "extras/custom_heads.safetensors"
BATCH_BYTES = 256 * 2**20  # evaluated together, so that a cast never holds two copies of the whole model

FLOATS = {"BF16", "F16", "F32"}

_RENAMED = (  # MLX community prefix, released prefix
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.visual."),
    ("t_embedder1.fc1.", "model.t_embedder1.mlp.0."),
    ("t_embedder1.fc2.", "model.t_embedder1.mlp.2."),
    ("x_embedder.", "model.x_embedder."),
    ("final_layer2.", "model.final_layer2."),
)


def released_name(name: str) -> str:
    """The release's name for a tensor of either layout."""
    for community, released in _RENAMED:
        if name.startswith(community):
            return released + name.removeprefix(community)
    return name


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one tensor lies and what it is."""

    file: Path
    name: str  # as written in the file
    dtype: str
    shape: tuple[int, ...]
    size: int  # bytes
    start: int  # where its bytes begin in the file


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, sorted. Raises CheckpointError when one is missing or there is none."""
    index = folder / INDEX
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index} has no 'weight_map'")
        files = [folder / name for name in sorted(set(weight_map.values()))]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} has no *.safetensors file")
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing: {INDEX} names it")
    extras = folder / EXTRAS
    return [*files, extras] if extras.exists() else files


def read_header(file: Path) -> list[Stored]:
    """What a safetensors file holds, without its data. Raises CheckpointError for a broken or short file."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        stored = [
            Stored(
                file,
                name,
                entry["dtype"],
                tuple(entry["shape"]),
                entry["data_offsets"][1] - entry["data_offsets"][0],
                8 + length + entry["data_offsets"][0],
            )
            for name, entry in header.items()
        ]
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is not a safetensors file: {error}") from error
    if file.stat().st_size != end:
        raise CheckpointError(f"{file} has {file.stat().st_size} bytes, its header says {end}: copy it again")
    return stored


class Weights:
    """A folder's tensors by their released names; reading one takes it out.

    `dtype` is what floating-point tensors become, `dequantize_from` what Quantized says. Shapes in errors are
    the config's expectation.
    """

    def __init__(self, folder: Path, dtype: mx.Dtype, dequantize_from: int = 0) -> None:
        self.folder = folder
        self.dtype = dtype
        self.dequantize_from = dequantize_from
        self.stored = {
            released_name(stored.name): stored
            for file in weight_files(folder)
            for stored in read_header(file)
        }
        self._read: set[str] = set()
        self._open: dict[Path, dict[str, mx.array]] = {}
        self._pending: list[mx.array] = []
        self._pending_bytes = 0

    def tensor(self, name: str, shape: Sequence[int]) -> mx.array:
        """One floating-point tensor of exactly this shape, in `dtype`."""
        return self._take(self._expect(name, shape))

    def dense(self, name: str, shape: Sequence[int]) -> mx.array:
        """The same, dequantised where it is stored quantised."""
        stem = name.removesuffix(".weight")
        if stem != name and f"{stem}.scales" in self.stored:
            return self._quantized(stem, *shape).rows()
        return self.tensor(name, shape)

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = False) -> Linear:
        """A linear layer, quantised if its `.scales` are stored."""
        weight = self._matrix(name, outputs, inputs)
        return Linear(weight, self.tensor(f"{name}.bias", (outputs,)) if bias else None)

    def stacked(self, names: Sequence[str], inputs: int, outputs: Sequence[int]) -> Stacked:
        """Linear layers of one input, without biases, those stored alike as one."""
        matrices = [self._matrix(name, rows, inputs) for name, rows in zip(names, outputs, strict=True)]
        made = stack(matrices)
        self._pending += [array for linear, _ in made.parts for array in arrays(linear.weight)]
        self._evaluate()  # now, so that no more than these few matrices exist twice
        return made

    def embedding(self, name: str, rows: int, columns: int) -> Embedding:
        """A token table, quantised if its `.scales` are stored."""
        return Embedding(self._matrix(name, rows, columns))

    def norm(self, name: str, size: int, eps: float) -> RMSNorm:
        """An RMS norm's weight."""
        return RMSNorm(self.tensor(f"{name}.weight", (size,)), eps)

    def finish(self, ignore: Iterable[str]) -> None:
        """Evaluate what was read. Raises CheckpointError for a tensor nobody asked for outside `ignore`."""
        extra = sorted(self.stored.keys() - self._read)
        ignored = tuple(ignore)
        for name in extra:
            if not name.startswith(ignored):
                stored = self.stored[name]
                raise CheckpointError(f"{stored.file}: tensor {stored.name} is not part of this model")
        self._evaluate()
        self._open.clear()

    def _matrix(self, name: str, rows: int, columns: int) -> mx.array | Quantized:
        if f"{name}.scales" in self.stored:
            return self._quantized(name, rows, columns)
        return self.tensor(f"{name}.weight", (rows, columns))

    def _quantized(self, name: str, rows: int, columns: int) -> Quantized:
        packed = self._find(f"{name}.weight")
        scales = self._find(f"{name}.scales")
        words, groups = packed.shape[-1], scales.shape[-1]
        bits, group_size = words * 32 // columns, columns // max(groups, 1)
        if packed.dtype != "U32" or words * 32 != bits * columns or groups * group_size != columns:
            raise CheckpointError(
                f"{packed.file}: tensor {packed.name} has shape {list(packed.shape)} with scales "
                f"{list(scales.shape)}, which is no quantised ({rows}, {columns})"
            )
        self._expect(f"{name}.weight", (rows, words))
        return Quantized(
            self._take(packed),
            self.tensor(f"{name}.scales", (rows, groups)),
            self.tensor(f"{name}.biases", (rows, groups)),
            group_size,
            bits,
            self.dequantize_from,
        )

    def _find(self, name: str) -> Stored:
        try:
            return self.stored[name]
        except KeyError:
            raise CheckpointError(f"{self.folder} has no tensor {name}") from None

    def _expect(self, name: str, shape: Sequence[int]) -> Stored:
        stored = self._find(name)
        if stored.shape != tuple(shape):
            raise CheckpointError(
                f"{stored.file}: tensor {stored.name} has shape {list(stored.shape)}, "
                f"config.json expects {list(shape)}"
            )
        return stored

    def _take(self, stored: Stored) -> mx.array:
        if stored.file not in self._open:
            loaded = mx.load(str(stored.file))
            assert isinstance(loaded, dict)
            self._open[stored.file] = loaded
        self._read.add(released_name(stored.name))
        array = self._open[stored.file].pop(stored.name)
        if stored.dtype in FLOATS:
            array = array.astype(self.dtype)
        self._pending.append(array)
        self._pending_bytes += stored.size
        if self._pending_bytes > BATCH_BYTES:
            self._evaluate()
        return array

    def _evaluate(self) -> None:
        mx.eval(self._pending)
        self._pending, self._pending_bytes = [], 0
