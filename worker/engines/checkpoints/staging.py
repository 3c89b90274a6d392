"""A folder that appears under its name only when it is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.host import durable


@contextmanager
def staged(target: Path, size: int = 0, *, keep: bool = False) -> Iterator[Path]:
    """Give a folder beside `target` to fill; it takes `target`'s name if the block ends well.

    What an earlier, killed attempt left there is removed first, and what a failed one made is removed at
    once; `keep` leaves both, for who resumes. Raises CheckpointError if `target` exists, if another process
    fills it, or if its disk has less than `size` bytes free.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists: choose another folder or remove it")
    folder = target.parent / f".{target.name}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, target)
        try:
            if not keep:
                _empty(folder)
            free = shutil.disk_usage(folder).free
            if free < size:
                raise CheckpointError(
                    f"{target} needs {size / 1e9:.1f} GB, its disk has {free / 1e9:.1f} GB free"
                )
            yield folder
            durable.sync(descriptor)
            folder.rename(target)
        except BaseException:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)
    durable.sync_path(target.parent)


def _lock(descriptor: int, target: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
    except BlockingIOError:
        raise CheckpointError(f"{target} is being written by another process") from None


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
