"""A folder belongs to one process and its server at a time, and the kernel knows to which."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from jobs.errors import NotReadyError

_DYING = 0.5  # seconds that a killed process may take to be gone
_ENDING = 10.0  # seconds that its server may take


class FolderInUseError(NotReadyError):
    """Another instance works in the folder."""


class FolderLock:
    """Two locks, which the kernel drops when their holders die.

    `lock` is its owner's alone and holds its pid. `server.lock` is inherited by the guard and the server, so
    that a folder whose owner was killed is not used before its server has ended too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owners = _FileLock(folder / "lock")
        self._servers = _FileLock(folder / "server.lock")

    @property
    def inherited(self) -> int:
        """The descriptor for the server."""
        return self._servers.fd

    def acquire(self) -> None:
        """Take it. Raises FolderInUseError where the owner lives, and waits where only its server does."""
        if not self._owners.acquire(_DYING):
            raise self._in_use(self._owners.holder())
        if not self._servers.acquire(_ENDING):
            holder = self._servers.holder()
            self.release()
            raise self._in_use(holder)

    def release(self) -> None:
        """Give it up, and leave no file."""
        self._servers.release()
        self._owners.release()

    def held(self) -> bool:
        """Whether it has an owner, and that lives."""
        return self._owners.held()

    def mark(self, pid: int) -> None:
        """Name the server, for whoever has to end it by hand."""
        self._servers.mark(pid)

    def _in_use(self, pid: int) -> FolderInUseError:
        return FolderInUseError(
            f"{self._folder} is in use by process {pid or 'unknown'}: "
            "end that first, or set KILN_HOME to another folder"
        )


class _FileLock:
    """A locked file that holds a pid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = -1

    def acquire(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while not self._try():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        self.mark(os.getpid())
        return True

    def mark(self, pid: int) -> None:
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, str(pid).encode(), 0)

    def holder(self) -> int:
        with suppress(OSError, ValueError):
            return int(self._path.read_text())
        return 0

    def held(self) -> bool:
        try:
            with self._path.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def release(self) -> None:
        if self.fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self.fd)
            self.fd = -1

    def _try(self) -> bool:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
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
        self.fd = fd
        return True
