"""A folder belongs to one server at a time, and the kernel knows to which."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from jobs.errors import NotReadyError


class FolderInUseError(NotReadyError):
    """Another instance works in the folder."""


class FolderLock:
    """A lock on a file that holds its owner's pid. It ends with the last process that inherited `fd`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = -1

    def acquire(self, patience: float = 10.0) -> None:
        """Take it. Raises FolderInUseError at once where the owner lives.

        A dead owner's server may be ending still: that is waited for, `patience` seconds at most.
        """
        deadline = time.monotonic() + patience
        while not self._try():
            owner = self._owner()
            if _alive(owner) or time.monotonic() > deadline:
                raise FolderInUseError(
                    f"{self._path.parent} is in use by process {owner or 'unknown'}: end that first, "
                    "or set KILN_HOME to another folder"
                )
            time.sleep(0.02)

    def release(self) -> None:
        """Give it up, and leave no file."""
        if self.fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self.fd)
            self.fd = -1

    def _try(self) -> bool:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have unlinked the file between our open and our lock.
            if os.fstat(fd).st_ino != self._path.stat().st_ino:
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            os.close(fd)
            return False
        except OSError:
            os.close(fd)
            raise
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
        self.fd = fd
        return True

    def _owner(self) -> int:
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return 0


def _alive(pid: int) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
