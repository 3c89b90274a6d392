"""What many ask for and one finds out: at most once in a while, and never by two at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """The answer of `look`, which may take long, for `fresh` seconds.

    While one looks, the others get what was found last, for `stale` seconds; so no number of callers, who may
    be anybody, keeps more than one thread or asks Redis more often.
    """

    def __init__(
        self,
        look: Callable[[], T],
        fresh: float,
        stale: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._fresh, self._stale, self._clock = look, fresh, stale, clock
        self._looking = threading.Lock()
        self._found: tuple[float, T] | None = None

    def get(self) -> T | None:
        """It; None where another looks and nothing is known yet, or only what is stale."""
        if (found := self._within(self._fresh)) is not None:
            return found
        if not self._looking.acquire(blocking=False):
            return self._within(self._stale)
        try:
            found = self._look()
            self._found = self._clock(), found
        finally:
            self._looking.release()
        return found

    def _within(self, seconds: float) -> T | None:
        found = self._found
        return found[1] if found is not None and self._clock() - found[0] < seconds else None
