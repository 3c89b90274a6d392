"""Folders in which macOS keeps a service out, or iCloud takes its files away.

Desktop, Documents, Downloads, other volumes and cloud folders are closed to what launchd starts, and nobody
is asked: the service's shell ends with exit code 126. Never tried on a Mac.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CLOUDS = ("Library/Mobile Documents", "Library/CloudStorage")
CLOSED = ("Desktop", "Documents", "Downloads")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder in a bad place: what it is used for, why the place is bad, what to do."""

    used_for: str
    path: Path
    severity: Literal["refused", "warning"]
    why: str
    mend: str

    def __str__(self) -> str:
        return f"{self.used_for} {self.path}: {self.why}; {self.mend}"


def badly_placed(
    folders: Mapping[str, Path], home: Path, platform: str, *, agent: bool = True
) -> list[Place]:
    """Those of `folders` (by what they are used for) that a service of the user at `home` should not use.

    A link counts both where it lies and where it leads. `agent`: in the user's session, else a daemon.
    """
    if platform != "darwin":
        return []
    found = []
    for used_for, path in folders.items():
        absolute = path.expanduser().absolute()
        for one in dict.fromkeys((absolute, absolute.resolve())):
            place = _place(used_for, one, home, agent)
            if place is not None:
                found.append(place)
                break
    return found


def _place(used_for: str, path: Path, home: Path, agent: bool) -> Place | None:
    better = home / _leaf(used_for, path)
    move = f"move it, for instance:  mv '{path}' '{better}'  {_then(used_for, better)}"
    for base in dict.fromkeys((home, home.resolve())):
        for cloud in CLOUDS:
            if _within(path, base / cloud):
                why = "a cloud folder: its files are uploaded, .venv and .kiln too, and may be gone from disk"
                return Place(used_for, path, "refused", why, move)
        for name in CLOSED:
            if _within(path, base / name):
                why = f"macOS keeps services out of {name} (they end with exit code 126)"
                if name != "Downloads":
                    why += ", and iCloud, where it has Desktop & Documents, uploads .venv and .kiln"
                return Place(used_for, path, "refused", why, move)
    if _within(path, Path("/Volumes")):
        if agent:
            return Place(
                used_for, path, "refused", "macOS keeps agents out of other volumes without asking", move
            )
        why = "another volume, which may not be mounted before somebody logs in"
        return Place(
            used_for, path, "warning", why, "see that it is mounted at boot, or keep it on the Mac's own disk"
        )
    return None


def _leaf(used_for: str, path: Path) -> str:
    """Where it would be well kept, below the home folder."""
    own = {"models": ".kiln/models", "spool": ".kiln/spool", "env file": ".config/pixelkiln/env"}
    return own.get(used_for, path.name)


def _then(used_for: str, better: Path) -> str:
    names = {
        "models": "KILN_MODELS_DIR",
        "spool": "KILN_SPOOL_DIR",
        "renders": "KILN_RENDERS_DIR",
        "home": "KILN_HOME",
        "cache": "KILN_CACHE_DIR",
    }
    if used_for in names:
        return f"and set {names[used_for]}={better}"
    return "and install from there" if used_for == "checkout" else ""


def _within(path: Path, folder: Path) -> bool:
    """Whether `path` is `folder` or below it, on a disk that takes Desktop and desktop for one."""
    parts, above = [[part.casefold() for part in one.parts] for one in (path, folder)]
    return parts[: len(above)] == above
