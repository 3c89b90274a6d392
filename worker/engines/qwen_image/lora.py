"""Lightning's low-rank files, fused into the weights they belong to: W + (alpha / rank) · up · down."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.stored import FLOATS, Stored, tensors
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.qwen_image.quantize import LINEAR

DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"
_STEPS = re.compile(r"(?i)lightning.*?(?<!\d)([48])[-_ ]?steps?")


@dataclass(frozen=True, slots=True)
class Delta:
    """What is added to one matrix."""

    down: mx.array  # (rank, inputs) float32
    up: mx.array  # (outputs, rank) float32, times alpha / rank

    def rows(self, first: int, count: int) -> mx.array:
        """(count, inputs) float32 of the matrix's rows."""
        return self.up[first : first + count] @ self.down


@dataclass(frozen=True, slots=True)
class Lora:
    """One file: what it adds, by the tensors' names."""

    name: str
    deltas: Mapping[str, Delta]

    @classmethod
    def read(cls, path: Path, stored: Mapping[str, Stored]) -> Lora:
        """Raises CheckpointError for a file that is not of this model: its blocks' linears and no other."""
        if not path.is_file():
            raise CheckpointError(f"{path} is {'no file' if path.exists() else 'missing'}")
        if any(one.dtype not in FLOATS for one in stored.values()):
            raise CheckpointError(
                f"{path} belongs into weights that are not quantised: take the 16-bit release"
            )
        found = tensors([path])
        wanted = [name.removesuffix(".weight") for name in stored if LINEAR.fullmatch(name)]
        wanted = [name for name in wanted if "_mod.1" not in name]
        extra = found.keys() - {f"{name}{part}" for name in wanted for part in (DOWN, UP, ALPHA)}
        if extra:
            raise CheckpointError(f"{path}: tensor {min(extra)} changes nothing that this model has")
        weights = Weights(path.parent, found, mx.float32)
        deltas = {}
        for name in wanted:
            rank = _rank(path, found, name)
            outputs, inputs = stored[f"{name}.weight"].shape
            down, up = (
                weights.tensor(f"{name}{DOWN}", (rank, inputs)),
                weights.tensor(f"{name}{UP}", (outputs, rank)),
            )
            alpha = (
                weights.tensor(f"{name}{ALPHA}", ()) if f"{name}{ALPHA}" in found else mx.array(float(rank))
            )
            deltas[f"{name}.weight"] = Delta(down, up * (alpha / rank))
        weights.finish(())
        mx.eval([one.up for one in deltas.values()])
        return cls(path.name, deltas)


def _rank(path: Path, found: Mapping[str, Stored], name: str) -> int:
    one = found.get(f"{name}{DOWN}")
    if one is None or len(one.shape) != 2 or one.dtype not in FLOATS or not one.shape[0]:
        raise CheckpointError(f"{path} has no tensor {name}{DOWN}, (rank, inputs): it is for another model")
    return one.shape[0]


def lightning_steps(path: Path) -> int:
    """The steps that a Lightning file is for, which only its name tells. Raises CheckpointError."""
    found = _STEPS.search(path.name)
    if found is None:
        raise CheckpointError(
            f"{path}: its name does not say lightning and 4steps or 8steps, as the authors' files' do:"
            " only Lightning's LoRAs are fused; call it as it was published"
        )
    return int(found[1])


def described(path: Path) -> str:
    """As kiln.json and a sidecar name a file: its name, and the beginning of its sha256."""
    with path.open("rb") as file:
        return f"{path.name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


class Fused(Weights):
    """A folder's tensors with a LoRA's added."""

    def __init__(self, folder: Path, stored: Mapping[str, Stored], dtype: mx.Dtype, lora: Lora) -> None:
        super().__init__(folder, stored, dtype)
        self._deltas = lora.deltas

    def _take(self, name: str, stored: Stored) -> mx.array:
        array, delta = super()._take(name, stored), self._deltas.get(name)
        if delta is None:
            return array
        return (array.astype(mx.float32) + delta.rows(0, len(array))).astype(self.dtype)
