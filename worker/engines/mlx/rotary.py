"""Rotary positions: pairs of a head's numbers turn by an angle that tells where a token stands.

Angles and rotation are elementwise float32: built with a matrix multiply they lose their low bits on hardware
with reduced-precision multipliers, and flat blocks appear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.mlx.elementwise import fused


@dataclass(frozen=True, slots=True)
class Halves:
    """Cosines and sines of one run of tokens, each (tokens, head_dim / 2) float32.

    The two halves of head_dim are the pairs' first and second members (GPT-NeoX convention).
    """

    cos: mx.array
    sin: mx.array

    def __call__(self, x: mx.array) -> mx.array:
        """Rotate (1, heads, tokens, head_dim) in float32 and return it in x's dtype."""
        first, second = mx.split(x, 2, axis=-1)
        return mx.concatenate(_turn(first, second, self.cos, self.sin), axis=-1)


@dataclass(frozen=True, slots=True)
class Pairs:
    """The same of neighbours: numbers 2i and 2i + 1 of a head are a pair."""

    cos: mx.array
    sin: mx.array

    def __call__(self, x: mx.array) -> mx.array:
        """Rotate (1, heads, tokens, head_dim) in float32 and return it in x's dtype."""
        turned = _turn(x[..., 0::2], x[..., 1::2], self.cos, self.sin)
        return mx.stack(turned, axis=-1).reshape(x.shape)


@fused
def _turn(first: mx.array, second: mx.array, cos: mx.array, sin: mx.array) -> list[mx.array]:
    x, y = first.astype(mx.float32), second.astype(mx.float32)
    return [(x * cos - y * sin).astype(first.dtype), (y * cos + x * sin).astype(first.dtype)]


def angles(positions: NDArray[np.integer[Any]], sizes: Sequence[int], theta: float) -> NDArray[np.float64]:
    """(tokens, sum(sizes) / 2) angles of tokens at `positions` (tokens, axes).

    Axis a has `sizes[a]` numbers of a head, so sizes[a] / 2 frequencies theta^(−2i / sizes[a]); axes follow
    each other (Su et al., RoFormer, 2021, once per axis).
    """
    parts = []
    for place, size in zip(positions.T.astype(np.float64), sizes, strict=True):
        parts.append(place[:, None] * theta ** (-np.arange(0, size, 2, dtype=np.float64) / size))
    return np.concatenate(parts, axis=1)


def halves(turned: NDArray[np.float64]) -> Halves:
    """The rotation by `angles`, of halves."""
    return Halves(*_cos_sin(turned))


def pairs(turned: NDArray[np.float64]) -> Pairs:
    """The rotation by `angles`, of neighbours."""
    return Pairs(*_cos_sin(turned))


def _cos_sin(turned: NDArray[np.float64]) -> tuple[mx.array, mx.array]:
    return mx.array(np.cos(turned).astype(np.float32)), mx.array(np.sin(turned).astype(np.float32))
