"""Parts of a model that run one after another, as a text encoder's layers: held only while they run.

What runs once a prompt need not take memory from what runs every step: a disk reads it again in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import mlx.core as mx

T = TypeVar("T")
S = TypeVar("S")


class Staged(Generic[T]):
    """Each part is loaded for its turn and freed after it; with `keep` all stay after their first turn.

    `loaders` give parts whose weights are evaluated.
    """

    def __init__(self, loaders: Sequence[Callable[[], T]], keep: bool) -> None:
        self._loaders = loaders
        self.keep = keep
        self._kept: dict[int, T] = {}

    def through(self, x: S, use: Callable[[T, S], S]) -> S:
        """What the last part's `use` gives of what the one before gave, and so on back to `x`.

        All are arrays or trees of them. Each is evaluated before its part is freed: a graph that was not
        would keep the weights in memory.
        """
        for i, load in enumerate(self._loaders):
            part = self._kept[i] if i in self._kept else load()
            if self.keep:
                self._kept[i] = part
            x = use(part, x)
            mx.eval(x)
            del part  # before the next is loaded
        if not self.keep:
            mx.clear_cache()
        return x

    def free(self) -> None:
        """Give the memory of what is kept back."""
        self._kept.clear()

    @property
    def kept(self) -> int:
        """How many parts are in memory now."""
        return len(self._kept)

    @property
    def told(self) -> str:
        """As a sidecar says it."""
        return "kept" if self.keep else "loaded for each prompt"
