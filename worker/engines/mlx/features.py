"""What was computed of prompts and pictures, kept for the next job that has the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from mlx.utils import tree_flatten

T = TypeVar("T")


def size_of(value: object) -> int:
    """Bytes of the arrays in a tree of lists, tuples and dicts."""
    leaves: list[tuple[str, Any]] = tree_flatten(value)  # type: ignore[assignment]
    return sum(array.nbytes for _, array in leaves)


class Recent(Generic[T]):
    """The most recently used values, trees of evaluated arrays, together at most `max_bytes`.

    `runs` counts those made.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.runs = 0
        self._kept: OrderedDict[Hashable, T] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes of those that are kept."""
        return sum(map(size_of, self._kept.values()))

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`, made if it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        self.runs += 1
        value = make()
        if size_of(value) <= self.max_bytes:
            self._kept[key] = value
            while self.held > self.max_bytes:
                self._kept.popitem(last=False)
        return value

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
