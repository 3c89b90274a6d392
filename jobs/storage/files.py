"""Names of pictures in a folder of this machine."""

from __future__ import annotations

import os
from pathlib import Path


def own_path(folder: Path, name: str) -> Path:
    """Where to write `name` in a folder, so that no other picture is overwritten.

    Jobs `Fox` and `fox` are two, and on a Mac's disk `Fox.png` and `fox.png` are one file; so are, there, the
    two ways in which Unicode writes é. The later one gets a number, with a ~, which no job's id has.
    Raises OSError where the folder cannot be read.
    """
    path = folder / name
    stem, suffix = path.stem, path.suffix
    for number in range(2, 1000):
        if not path.exists() or path.name in os.listdir(folder):  # noqa: PTH208 - names as they were written
            break
        path = folder / f"{stem}~{number}{suffix}"
    return path
