"""Free space. macOS counts some as free that it would first have to clear."""

from __future__ import annotations

import plistlib
from pathlib import Path
from xml.parsers.expat import ExpatError

from pixelkiln.worker.host.programs import Ask, ask


def container_free(folder: Path, asked: Ask = ask) -> int | None:
    """Bytes that are free at once in the APFS container of a folder's volume; None where not told.

    Snapshots and evictable files ("purgeable") are not in it. Whether they are in what statvfs calls
    available differs between reports of macOS releases, so the smaller of both is to be believed.
    """
    found = asked("diskutil", "info", "-plist", str(_mount(folder)))
    try:
        told = plistlib.loads((found.out if found else "").encode())
        free = told.get("APFSContainerFree", told.get("FreeSpace"))
    except (plistlib.InvalidFileException, ExpatError, ValueError, AttributeError):
        return None
    return free if isinstance(free, int) else None


def _mount(folder: Path) -> Path:
    """The mount point: diskutil takes no other folder."""
    return next(path for path in (folder, *folder.parents) if path.is_mount())
