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

    `agent`: in the user's session, else a daemon.
    """
    if platform != "darwin":
        return []
    places = (_place(name, path.expanduser().absolute(), home, agent) for name, path in folders.items())
    return [place for place in places if place is not None]


def protected(path: Path, home: Path) -> str | None:
    """Why a program that launchd starts for the user at `home` should not have `path`, if so.

    A link counts both where it lies and where it leads. Nothing of it need exist.
    """
    for one in dict.fromkeys((path.expanduser().absolute(), _resolved(path))):
        for base in dict.fromkeys((home, home.resolve())):
            for cloud in CLOUDS:
                if _within(one, base / cloud):
                    return (
                        f"~/{cloud} is a cloud folder: what lies there, .venv and .kiln too, is uploaded and"
                        " may be taken off this disk"
                    )
            for name in CLOSED:
                if _within(one, base / name):
                    uploads = "" if name == "Downloads" else ", and iCloud may upload .venv and .kiln"
                    return f"macOS keeps ~/{name} from what launchd starts (exit code 126){uploads}"
        if _on_volume(one):
            return "macOS keeps other volumes from what launchd starts"
    return None


def _place(used_for: str, path: Path, home: Path, agent: bool) -> Place | None:
    why = protected(path, home)
    if why is None:
        return None
    if not agent and _on_volume(path):
        return Place(
            used_for,
            path,
            "warning",
            "another volume, which may not be mounted before somebody logs in",
            "see that it is mounted at boot, or keep it on the Mac's own disk",
        )
    better = home / _leaf(used_for, path)
    move = f"move it, for instance:  mv '{path}' '{better}'  {_then(used_for, better)}"
    return Place(used_for, path, "refused", why, move)


def _on_volume(path: Path) -> bool:
    return _within(path, Path("/Volumes")) and len(path.parts) > 2


def _resolved(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError):  # links in a circle
        return path.absolute()


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
