"""A checkpoint folder's headers in the place of its weights."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import FLOATS, Stored, Weights, released_name
from pixelkiln.worker.engines.mlx.layers import Quantized


class Headers(Weights):
    """Checks a folder against its config without reading a weight: tensors come as zeros, unevaluated."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, mx.bfloat16)
        self.widths: set[int] = set()  # bits of what is stored quantised

    def _quantized(self, name: str, rows: int, columns: int) -> Quantized:
        found = super()._quantized(name, rows, columns)
        self.widths.add(found.bits)
        return found

    def _take(self, stored: Stored) -> mx.array:
        self._read.add(released_name(stored.name))
        return mx.zeros(stored.shape, self.dtype if stored.dtype in FLOATS else mx.uint32)

    def _evaluate(self) -> None:
        pass
