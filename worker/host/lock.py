"""A lock on a file, which the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path


class FileLock:
    """A file that is locked while its owner lives, and holds the owner's pid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = -1  # may be inherited: the lock then ends with the last process that has it

    def acquire(self, patience: float = 0.0) -> bool:
        """Take it, trying for `patience` seconds. Raises OSError where the file cannot be made."""
        deadline = time.monotonic() + patience
        while not self._try():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        self.mark(os.getpid())
        return True

    def mark(self, pid: int) -> None:
        """Name the holder."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, str(pid).encode(), 0)

    def holder(self) -> int:
        """The pid it was marked with, or 0."""
        with suppress(OSError, ValueError):
            return int(self._path.read_text())
        return 0

    def stands(self) -> bool:
        """Whether this process has it, on the file that lies there: someone may have removed that."""
        with suppress(OSError):
            return self.fd >= 0 and os.path.samestat(os.fstat(self.fd), self._path.stat())
        return False

    def held(self) -> bool:
        """Whether a living process has it."""
        try:
            with self._path.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def release(self) -> None:
        """Give it up, and leave no file but another's."""
        if self.fd >= 0:
            if self.stands():
                with suppress(OSError):  # a disk that is read-only now; what counts is the kernel's lock
                    self._path.unlink(missing_ok=True)
            os.close(self.fd)
            self.fd = -1

    def _try(self) -> bool:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have unlinked the file between our open and our lock.
            current = os.fstat(fd).st_ino == self._path.stat().st_ino
        except (BlockingIOError, FileNotFoundError):
            current = False
        except OSError:
            os.close(fd)
            raise
        if not current:
            os.close(fd)
            return False
        if self.fd >= 0:  # of a file that was removed
            os.close(self.fd)
        self.fd = fd
        return True
