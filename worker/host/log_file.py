"""A service's log as a file that does not grow for ever.

launchd opens the file once, as the service's output, and never again. newsyslog would rename it under the
process, which would go on writing into the renamed, soon compressed file; so the process starts a new one.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

LIMIT = 10 * 2**20  # bytes
KEPT = 5  # older files: worker.log.1 to worker.log.5
EVERY = 60.0  # seconds between looks


def rotate(path: Path, descriptors: tuple[int, ...] = (1, 2), limit: int = LIMIT, kept: int = KEPT) -> bool:
    """Start a new file, if `descriptors` write to the one at `path` and it is large; whether it did."""
    try:
        found = path.stat()
    except OSError:
        return False
    ours = [fd for fd in descriptors if _is(fd, found)]
    if not ours or found.st_size <= limit:
        return False
    for number in range(kept - 1, 0, -1):
        older = _older(path, number)
        if older.exists():
            older.replace(_older(path, number + 1))
    path.replace(_older(path, 1))
    new = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    for fd in ours:
        os.dup2(new, fd)
    os.close(new)
    return True


class Rotation(threading.Thread):
    """Looks after the log while the service runs, and dies with it."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="log-rotation", daemon=True)
        self._path = path
        self._ended = threading.Event()

    def run(self) -> None:
        """Rotate when it is time."""
        while True:
            with suppress(OSError):  # a full disk, a folder taken away: the log goes on as it is
                rotate(self._path)
            if self._ended.wait(EVERY):
                return

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _is(fd: int, found: os.stat_result) -> bool:
    return os.path.samestat(os.fstat(fd), found)
