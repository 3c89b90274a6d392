"""A record of what is brought to the disk, and of when folders take their names."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

FULL = 51  # F_FULLFSYNC, as macOS numbers it


def recorded(monkeypatch: pytest.MonkeyPatch, *, mac: bool) -> list[tuple[str, str]]:
    """Calls from now on, in order: what was called, and the name of the file or folder."""
    calls: list[tuple[str, str]] = []
    real_fcntl, real_fsync, real_rename, real_replace = fcntl.fcntl, os.fsync, Path.rename, Path.replace

    def name(handle: int) -> str:
        return Path(f"/proc/self/fd/{handle}").readlink().name

    def note_fcntl(handle: int, command: int, *rest: int) -> object:
        if mac and command == FULL:
            calls.append(("full", name(handle)))
            return 0
        return real_fcntl(handle, command, *rest)

    def note_fsync(handle: int) -> None:
        calls.append(("fsync", name(handle)))
        real_fsync(handle)

    def note_rename(path: Path, target: Path) -> Path:
        calls.append(("named", Path(target).name))
        return real_rename(path, target)

    def note_replace(path: Path, target: Path) -> Path:
        calls.append(("named", Path(target).name))
        return real_replace(path, target)

    if mac:
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
    else:
        monkeypatch.delattr(fcntl, "F_FULLFSYNC", raising=False)
    monkeypatch.setattr(fcntl, "fcntl", note_fcntl)
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "rename", note_rename)
    monkeypatch.setattr(Path, "replace", note_replace)
    return calls
