"""A checkpoint folder's headers in the place of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.stored import FLOATS, Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.layers import Quantized


class Headers(Weights):
    """Checks a folder against its config without reading a weight: tensors come as zeros, unevaluated."""

    def __init__(self, folder: Path, stored: Mapping[str, Stored]) -> None:
        super().__init__(folder, stored, mx.bfloat16)
        self.widths: set[int] = set()  # bits of what is stored quantised

    def _quantized(self, name: str, rows: int, columns: int) -> Quantized:
        found = super()._quantized(name, rows, columns)
        self.widths.add(found.bits)
        return found

    def _take(self, name: str, stored: Stored) -> mx.array:
        self._read.add(name)
        return mx.zeros(stored.shape, self.dtype if stored.dtype in FLOATS else mx.uint32)

    def _evaluate(self) -> None:
        pass
