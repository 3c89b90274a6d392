"""Arrays with the one operation each is for, dense or quantised as the checkpoint stored them."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, slots=True)
class Quantized:
    """Affine-quantised rows: `bits` wide integers in groups of `group_size` along the last axis."""

    weight: mx.array
    scales: mx.array
    biases: mx.array
    group_size: int
    bits: int

    def rows(self, index: mx.array | slice = slice(None)) -> mx.array:
        """Some rows as floating point, (len(index), columns)."""
        weight, scales, biases = self.weight[index], self.scales[index], self.biases[index]
        return mx.dequantize(weight, scales, biases, group_size=self.group_size, bits=self.bits)


@dataclass(frozen=True, slots=True)
class Linear:
    """x @ weight.T + bias, weight (outputs, inputs)."""

    weight: mx.array | Quantized
    bias: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        """(…, inputs) to (…, outputs), in x's dtype."""
        if isinstance(self.weight, Quantized):
            q = self.weight
            y = mx.quantized_matmul(
                x, q.weight, q.scales, q.biases, transpose=True, group_size=q.group_size, bits=q.bits
            )
            return y if self.bias is None else y + self.bias
        if self.bias is None:
            return x @ self.weight.T
        return mx.addmm(self.bias, x, self.weight.T)


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
