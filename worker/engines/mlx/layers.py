"""Arrays with the one operation each is for, dense or quantised as the checkpoint stored them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

import mlx.core as mx

from pixelkiln.worker.engines.mlx.cuda import dequantizer


@dataclass(frozen=True, slots=True)
class Quantized:
    """Affine-quantised rows: `bits` wide integers in groups of `group_size` along the last axis.

    Inputs of `dequantize_from` rows and more are multiplied by the dequantised weight, which then exists
    while that product is made; fewer by the quantised one. See calibrate.
    """

    weight: mx.array
    scales: mx.array
    biases: mx.array
    group_size: int
    bits: int
    dequantize_from: int = 0

    def rows(self, index: mx.array | slice = slice(None)) -> mx.array:
        """Some rows as floating point, (len(index), columns)."""
        weight, scales, biases = self.weight[index], self.scales[index], self.biases[index]
        faster = dequantizer(self.bits, self.group_size, scales.dtype)
        if faster is not None:
            return faster(weight, scales, biases)
        return mx.dequantize(weight, scales, biases, group_size=self.group_size, bits=self.bits)

    def multiply(self, x: mx.array) -> mx.array:
        """x @ rows().T without the rows."""
        return mx.quantized_matmul(
            x, self.weight, self.scales, self.biases, group_size=self.group_size, bits=self.bits
        )


@dataclass(frozen=True, slots=True)
class Linear:
    """x @ weight.T + bias, weight (outputs, inputs)."""

    weight: mx.array | Quantized
    bias: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        """(…, inputs) to (…, outputs), in x's dtype."""
        weight = self.weight
        if isinstance(weight, Quantized):
            if x.size // x.shape[-1] < weight.dequantize_from:
                y = weight.multiply(x)
                return y if self.bias is None else y + self.bias
            weight = weight.rows()
        return x @ weight.T if self.bias is None else mx.addmm(self.bias, x, weight.T)


@dataclass(frozen=True, slots=True)
class Stacked:
    """Linear layers of one input, multiplied at once where their weights are stored alike."""

    parts: tuple[tuple[Linear, tuple[int, ...]], ...]  # each with where to split its outputs

    def __call__(self, x: mx.array) -> list[mx.array]:
        """(…, inputs) to every layer's (…, outputs)."""
        return [y for linear, at in self.parts for y in mx.split(linear(x), at, axis=-1)]


def stack(matrices: Sequence[mx.array | Quantized]) -> Stacked:
    """Weights (outputs, inputs) of one input; neighbours of one kind become one weight."""
    parts = []
    for _, run in groupby(matrices, lambda one: isinstance(one, Quantized) and (one.bits, one.group_size)):
        alike = list(run)
        at = tuple(accumulate(len(arrays(one)[0]) for one in alike[:-1]))
        parts.append((Linear(_join(alike)), at))
    return Stacked(tuple(parts))


def arrays(matrix: mx.array | Quantized) -> list[mx.array]:
    """What a weight consists of, each with a row per output."""
    return [matrix.weight, matrix.scales, matrix.biases] if isinstance(matrix, Quantized) else [matrix]


def _join(alike: Sequence[mx.array | Quantized]) -> mx.array | Quantized:
    if len(alike) == 1:
        return alike[0]
    joined = [mx.concatenate(list(parts)) for parts in zip(*map(arrays, alike), strict=True)]
    first = alike[0]
    if isinstance(first, Quantized):
        weight, scales, biases = joined
        return replace(first, weight=weight, scales=scales, biases=biases)
    return joined[0]


@dataclass(frozen=True, slots=True)
class Embedding:
    """A table of rows by token id."""

    weight: mx.array | Quantized

    def __call__(self, ids: mx.array) -> mx.array:
        """(n,) ids to (n, hidden) rows."""
        return self.weight.rows(ids) if isinstance(self.weight, Quantized) else self.weight[ids]


@dataclass(frozen=True, slots=True)
class RMSNorm:
    """Root mean square normalisation over the last axis, summed in float32."""

    weight: mx.array
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        """Same shape and dtype as x."""
        return mx.fast.rms_norm(x, self.weight, self.eps)
