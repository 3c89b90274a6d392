"""Folders that macOS guards: a program that launchd started may not read them, or they are uploaded."""

from __future__ import annotations

from pathlib import Path

_CLOUD = ("Library/Mobile Documents", "Library/CloudStorage")
_ASKED = ("Desktop", "Documents", "Downloads")


def protected(path: Path, home: Path) -> str | None:
    """Why a worker that launchd starts should not have `path`, in words, if so.

    Nothing of it need exist.
    """
    parts, own = _parts(path), _parts(home)
    for folder in _CLOUD:
        if _within(parts, own + _parts_of(folder)):
            return (
                f"~/{folder} is kept in the cloud: what lies there is uploaded and may be taken off this disk"
            )
    for folder in _ASKED:
        if _within(parts, own + _parts_of(folder)):
            uploads = "" if folder == "Downloads" else ", and iCloud may upload it"
            return f"macOS keeps ~/{folder} from programs that launchd starts{uploads}"
    if _within(parts, _parts_of("/Volumes")) and len(parts) > 2:
        return "macOS keeps external and network volumes from programs that launchd starts"
    return None


def _parts(path: Path) -> tuple[str, ...]:
    """Without links, since one in the home folder may lead anywhere, and as a Mac compares names."""
    try:
        path = path.expanduser().resolve()
    except (OSError, RuntimeError):  # links in a circle
        path = path.absolute()
    return tuple(part.casefold() for part in path.parts)


def _parts_of(folder: str) -> tuple[str, ...]:
    return tuple(part.casefold() for part in Path(folder).parts)


def _within(parts: tuple[str, ...], folder: tuple[str, ...]) -> bool:
    return parts[: len(folder)] == folder
