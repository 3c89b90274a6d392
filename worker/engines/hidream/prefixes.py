"""Keys and values of prompts that ran already, within a bound in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from pixelkiln.worker.engines.hidream.decoder import KeysValues

Prefix = list[KeysValues]


def size_of(prefix: Prefix) -> int:
    """Bytes a prefix holds."""
    return sum(keys.nbytes + values.nbytes for keys, values in prefix)


class PrefixCache:
    """The most recently used prefixes, together at most `max_bytes`. `runs` counts those made."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.runs = 0
        self._kept: OrderedDict[Hashable, Prefix] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Prefix]) -> Prefix:
        """The prefix of `key`, made if it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self.runs += 1
        prefix = make()
        if size_of(prefix) <= self.max_bytes:
            self._kept[key] = prefix
            while self.held > self.max_bytes:
                self._kept.popitem(last=False)
        return prefix

    @property
    def held(self) -> int:
        """Bytes that the kept ones hold."""
        return sum(map(size_of, self._kept.values()))

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
