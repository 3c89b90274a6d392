"""Looks at the farm on a thread of its own, so that keys are heard while Redis is away."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from pixelkiln.jobs.commands.live.inline import small_png
from pixelkiln.jobs.errors import KilnError
from pixelkiln.jobs.watching.snapshot import Snapshot
from pixelkiln.jobs.watching.watcher import Watcher

EVERY = 1.0  # seconds from one look to the next
AHEAD = 0.1  # seconds between two looks while batches are not looked through yet


@dataclass(frozen=True, slots=True)
class Seen:
    """The last look that was answered, and why there is no newer one."""

    snapshot: Snapshot
    trouble: str = ""


class Reader(threading.Thread):
    """Looks once a second until the process ends."""

    def __init__(self, watcher: Watcher, first: Snapshot, *, pictures: bool = False) -> None:
        """`pictures`: make what is drawn of the previews."""
        super().__init__(name="reader", daemon=True)
        self._watcher = watcher
        self._pictures = pictures
        self._ended = threading.Event()
        self.seen = Seen(first)  # replaced whole, so that it is read without a lock
        self.drawn: dict[str, tuple[bytes, bytes]] = {}  # WebP and PNG, by job
        self.broken: BaseException | None = None

    def run(self) -> None:
        """Look until stopped."""
        try:
            while not self._ended.wait(
                AHEAD if self.seen.snapshot.unread and not self.seen.trouble else EVERY
            ):
                self._look()
        except BaseException as error:
            self.broken = error

    def stop(self) -> None:
        """Look no more; a look that waits for Redis is not waited for."""
        self._ended.set()

    def _look(self) -> None:
        try:
            snapshot = self._watcher.look()
        except KilnError as error:
            self.seen = Seen(self.seen.snapshot, str(error))
            return
        if self._pictures:
            self.drawn = {job: self._png(job, webp) for job, webp in snapshot.previews.items()}
        self.seen = Seen(snapshot)

    def _png(self, job: str, webp: bytes) -> tuple[bytes, bytes]:
        before = self.drawn.get(job)
        return before if before is not None and before[0] == webp else (webp, small_png(webp) or b"")
