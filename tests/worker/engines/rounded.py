"""A part's weights as the specifications quantised them: every matrix, scales and biases in float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights


class Rounded(Weights):
    """A folder's tensors in float32, matrices as far off as so many bits leave them."""

    def __init__(self, folder: Path, stored: Mapping[str, Stored], bits: int, group_size: int) -> None:
        super().__init__(folder, stored, mx.float32)
        self._kind = (group_size, bits)

    def _take(self, name: str, stored: Stored) -> mx.array:
        array = super()._take(name, stored)
        if array.ndim != 2 or not name.endswith(".weight"):
            return array
        return mx.dequantize(*mx.quantize(array, *self._kind), *self._kind)
