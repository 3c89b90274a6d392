"""Pictures as files in a folder of this machine, in which others may write, too."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

MOST = 2**30  # bytes of a picture that is looked at


def own_path(folder: Path, name: str, ours: Callable[[Path], bool] = lambda path: True) -> Path:
    """Where to write `name` in a folder, so that no other picture is overwritten.

    Jobs `Fox` and `fox` are two, and on a Mac's disk `Fox.png` and `fox.png` are one file; so are, there, the
    two ways in which Unicode writes é. Two clients may have a job `fox`: `ours` says of a file whether it may
    be replaced. The later one gets a number, with a ~, which no job's id has.
    Raises OSError where the folder cannot be read.
    """
    path = folder / name
    stem, suffix = path.stem, path.suffix
    for number in range(2, 1000):
        if not path.exists():
            break
        if path.name in os.listdir(folder) and ours(path):  # noqa: PTH208 - names as they were written
            break
        path = folder / f"{stem}~{number}{suffix}"
    return path


def write(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all; what lies at its name is replaced, and no link followed."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: Path, most: int) -> bytes | None:
    """A file of at most so many bytes; None where there is none, a link, or what is no file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        return file.read() if stat.S_ISREG(about.st_mode) and about.st_size <= most else None


def holds(path: Path, sha256: str) -> bool:
    """Whether a file's content has that sha256, hexadecimal."""
    body = read(path, MOST)
    return body is not None and hashlib.sha256(body).hexdigest() == sha256
