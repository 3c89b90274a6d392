"""Random weights of any size in place of a checkpoint's: to measure what no folder here holds."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.quantize import Widths
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.layers import Quantized


class RandomWeights(Weights):
    """Normal values of spread 1/√inputs, norms near 1; matrices that `widths` quantises as uniform integers.

    Made on the device, one at a time, so that the largest tensor is all that making them adds.
    """

    def __init__(self, widths: Widths, dtype: mx.Dtype, dequantize_from: int = 0) -> None:
        super().__init__(Path(), {}, dtype, dequantize_from)
        self.widths = widths
        self._keys = iter(range(1, 2**31))

    def tensor(self, name: str, shape: Sequence[int]) -> mx.array:
        """Random values of this shape."""
        centre = 1.0 if "norm" in name else 0.0
        spread = 0.02 if centre or len(shape) == 1 else prod(shape[1:]) ** -0.5
        values = mx.random.normal(shape, self.dtype, centre, spread, mx.random.key(next(self._keys)))
        mx.eval(values)
        return values

    def finish(self, ignore: object) -> None:
        """All is evaluated already."""

    def _matrix(self, name: str, rows: int, columns: int) -> mx.array | Quantized:
        bits = self.widths.of(f"{name}.weight")
        if bits is None:
            return self.tensor(f"{name}.weight", (rows, columns))
        group_size = self.widths.group(columns)
        assert group_size is not None
        words, groups = columns * bits // 32, columns // group_size
        width = (12 / columns) ** 0.5  # of a uniform distribution with a spread of 1/√columns
        scale = width / (2**bits - 1)
        made = Quantized(
            self._integers(rows, words),
            mx.full((rows, groups), scale, self.dtype),
            mx.full((rows, groups), -width / 2, self.dtype),
            group_size,
            bits,
            self.dequantize_from,
        )
        mx.eval(made.weight, made.scales, made.biases)
        return made

    def _integers(self, rows: int, words: int) -> mx.array:
        """All bits random, which those of a 32-bit integer drawn at once are not."""
        key = mx.random.key(next(self._keys))
        return mx.random.randint(0, 256, (rows, words * 4), mx.uint8, key).view(mx.uint32)
