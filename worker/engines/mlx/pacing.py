"""Keeps the host from running far ahead of the device.

MLX allocates what an operation writes when it is submitted. A whole step submitted at once holds every
layer's intermediates, dequantised weights among them, until the device has caught up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import mlx.core as mx

AHEAD = 1  # layers: enough to keep the device busy while the host prepares the next
_ahead: ContextVar[int] = ContextVar("layers ahead", default=AHEAD)


@contextmanager
def ahead(layers: int) -> Iterator[None]:
    """Within, the host runs so many layers ahead: to time it. Memory is counted for AHEAD."""
    before = _ahead.set(layers)
    try:
        yield
    finally:
        _ahead.reset(before)


class Pace:
    """Submits one layer after another and waits for the one `ahead` layers before."""

    def __init__(self) -> None:
        self.ahead = _ahead.get()
        self._submitted: deque[tuple[mx.array, ...]] = deque()

    def __call__(self, *outputs: mx.array) -> None:
        """Start to compute what a layer gives."""
        mx.async_eval(*outputs)  # type: ignore[no-untyped-call]
        self._submitted.append(outputs)
        if len(self._submitted) > self.ahead:
            mx.eval(*self._submitted.popleft())
