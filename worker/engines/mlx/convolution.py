"""Convolutions of one large map in strips of rows: exact, and no more than a strip is held beside the map.

A map is (rows, columns, channels). A GPU's fast algorithms, and a CPU's only one, unfold what they convolve:
nine times a whole map is what makes decoders the peak of a render.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

STRIP_BYTES = 256 * 2**20  # of a strip's input, unfolded

Elementwise = Callable[[mx.array], mx.array]


@dataclass(frozen=True, slots=True)
class Conv:
    """A square kernel, weight (outputs, side, side, inputs), on maps padded with zeros.

    `padding` is rows, and columns, put before and after.
    """

    weight: mx.array
    bias: mx.array
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    def __call__(
        self, x: mx.array, before: Elementwise | None = None, after: Rows | None = None, scale: int = 1
    ) -> mx.array:
        """Convolve (rows, columns, inputs), evaluated if it takes more than one strip.

        `before` is applied to each strip of the input, `after` gives what is added to rows of the output.
        With a `scale` every place of the input counts as a square of so many.
        """
        side, rows, columns = self.weight.shape[1], *(n * scale for n in x.shape[:2])
        most, wide = ((n + sum(self.padding) - side) // self.stride + 1 for n in (rows, columns))
        unfolded = wide * self.weight[0].size * x.itemsize

        def strip(first: int, last: int) -> mx.array:
            y = self._strip(x, first, last, before, scale)
            return y if after is None else y + after(first, last)

        return in_strips(strip, most, max(1, STRIP_BYTES // unfolded))

    def _strip(self, x: mx.array, first: int, last: int, before: Elementwise | None, scale: int) -> mx.array:
        """Rows `first` up to `last` of the output."""
        rows, side, (low, high) = len(x) * scale, self.weight.shape[1], self.padding
        begin, end = first * self.stride - low, (last - 1) * self.stride + side - low
        top, bottom = max(0, begin), min(rows, end)
        taken = x[top // scale : -(-bottom // scale)]
        if before is not None:
            taken = before(taken)
        if scale > 1:
            taken = mx.repeat(mx.repeat(taken, scale, axis=0), scale, axis=1)
            skipped = top % scale
            taken = taken[skipped : skipped + bottom - top]
        if (top, bottom, low, high) != (begin, end, 0, 0):
            taken = mx.pad(taken, [(top - begin, end - bottom), (low, high), (0, 0)])
        return mx.conv2d(taken[None], self.weight, stride=self.stride)[0] + self.bias


Rows = Callable[[int, int], mx.array]  # first and last (exclusive) to these rows of a map


def in_strips(make: Rows, rows: int, step: int) -> mx.array:
    """The map of so many rows that `make` gives `step` at a time; evaluated if that is more than once."""
    if step >= rows:
        return make(0, rows)
    whole: mx.array | None = None
    for first in range(0, rows, step):
        strip = make(first, min(first + step, rows))
        if whole is None:
            whole = mx.zeros((rows, *strip.shape[1:]), strip.dtype)
        whole[first : first + step] = strip
        del strip
        mx.eval(whole)  # in place, since nobody else holds it
    assert whole is not None
    return whole
