"""The digest of the weights that lie in a folder: read once, and again where a file has changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pixelkiln.worker.engines.checkpoints.files import write_json
from pixelkiln.worker.engines.checkpoints.manifest import digest
from pixelkiln.worker.engines.engine import CheckpointError

Signature = list[list[str | int]]  # of each file: name, bytes, when it was written and changed, inode


def signature(folder: Path, files: Sequence[Path]) -> Signature:
    """What changes whenever a file is replaced or written to. Raises CheckpointError."""
    try:
        about = [(path.relative_to(folder).as_posix(), path.stat()) for path in sorted(files)]
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from error
    return [[name, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino] for name, one in about]


def measured(folder: Path, files: Sequence[Path], cache: Path | None) -> str:
    """The digest of these files, see manifest.digest; from `cache` where it was read of them before.

    Raises CheckpointError where a file cannot be read or changes meanwhile.
    """
    seen = signature(folder, files)
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    path = None if cache is None else cache / f"weights-{name}.json"
    kept = None if path is None else _kept(path, seen)
    if kept is not None:
        return kept
    try:
        made = digest(folder, files)
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from error
    check_unchanged(folder, files, seen)
    if path is not None:
        with suppress(OSError):  # it is read again then
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            write_json(partial, {"files": seen, "digest": made})
            partial.replace(path)
    return made


def check_unchanged(folder: Path, files: Sequence[Path], seen: Signature) -> None:
    """Raise CheckpointError where the files are no more those that were `seen`."""
    if signature(folder, files) != seen:
        raise CheckpointError(f"{folder}: its weights changed while they were read; try again once they rest")


def _kept(path: Path, seen: Signature) -> str | None:
    try:
        data = json.loads(path.read_bytes())
        return str(data["digest"]) if data["files"] == seen else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
