"""A folder belongs to one process and its server at a time, and the kernel knows to which."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.worker.host.lock import FileLock

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
        self._owners = FileLock(folder / "lock")
        self._servers = FileLock(folder / "server.lock")

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
