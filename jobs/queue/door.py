"""What all that is asked of Redis goes through: one connection, looked at before its first use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from pixelkiln.jobs.queue.connection import check, connect
from pixelkiln.jobs.settings import Settings

T = TypeVar("T")

CHUNK = 100  # jobs in one round trip: what takes come in between of


class Door:
    """The connection to a farm's Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.connection = connect(settings)
        self._checked = False

    def _check(self) -> None:
        """Before the first call: else each would say in a way of its own what is wrong with the server."""
        if not self._checked:
            check(self._settings, self.connection)
            self._checked = True


def chunks(things: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """The same in parts, in order."""
    for start in range(0, len(things), size):
        yield things[start : start + size]
