"""Noticing that this process stood still: it was frozen, or its machine slept."""

from __future__ import annotations

import time
from collections.abc import Callable


class Standstill:
    """Tells how long ago it was asked before, by whichever clock ran further.

    Monotonic time stops while a Mac sleeps, wall time while it is set back. A wall clock that is set forward
    looks like a sleep; that costs its user no more than a sleep would.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._last = monotonic(), wall()

    def seconds(self) -> float:
        """Seconds since the last call, or since it was made."""
        now = self._monotonic(), self._wall()
        passed = max(now[0] - self._last[0], now[1] - self._last[1])
        self._last = now
        return passed
