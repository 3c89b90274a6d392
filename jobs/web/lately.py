"""Many who ask the same at once cost one look."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lately(Generic[T]):
    """What was seen a moment ago. Safe to share."""

    def __init__(self, remembered: int = 500) -> None:
        """`remembered`: how many looks it keeps."""
        self._remembered = remembered
        self._lock = threading.Lock()
        self._known: OrderedDict[object, tuple[threading.Lock, list[tuple[float, T]]]] = OrderedDict()

    def get(
        self,
        key: object,
        fresh: float | Callable[[T], float],
        look: Callable[[], T],
        asked: float | None = None,
    ) -> T:
        """What was seen under `key` by a look that began less than `fresh` seconds before it was asked for.

        Else what `look` finds. `asked`: when that was, by the monotonic clock; absent, now. With `fresh` 0
        it is what a look finds that began later. It may depend on what was seen.
        """
        asked = time.monotonic() if asked is None else asked
        with self._lock:
            turn, seen = self._known.setdefault(key, (threading.Lock(), []))
            self._known.move_to_end(key)
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
        with turn:
            if not seen or asked - seen[0][0] >= (fresh(seen[0][1]) if callable(fresh) else fresh):
                seen[:] = [(time.monotonic(), look())]
            return seen[0][1]
