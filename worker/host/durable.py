"""Writing so that a power cut does not lose it.

macOS's fsync stops at the drive's cache; F_FULLFSYNC does not.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def sync(handle: int) -> None:
    """Bring what was written to an open file or folder to the disk itself. Raises OSError."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(handle, full)
        except OSError:  # a network volume
            os.fsync(handle)
    else:
        os.fsync(handle)


def sync_path(path: Path) -> None:
    """The same for a file that another wrote, or for a folder's entries. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def write(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file through to the disk; its folder is to be synced too. Raises OSError, for a link too."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        sync(file.fileno())
