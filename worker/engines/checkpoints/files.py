"""The small files of a checkpoint folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.host import durable

MAX_BYTES = 64 * 2**20  # of a small file; a tokenizer has 11


def read_file(path: Path) -> bytes:
    """Read a small file. Raises CheckpointError that names it; never waits for a pipe."""
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} {'is no file' if path.exists() else 'is missing'}")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CheckpointError(f"{path} has {size:,} bytes; the limit is {MAX_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object of a checkpoint folder. Raises CheckpointError that names the file."""
    try:
        data = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return data


def whole(data: Mapping[str, Any], key: str, most: int, least: int = 1) -> int:
    """The whole number at `key`, within bounds. Raises KeyError and ValueError."""
    value = data[key]
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{key} is {shown(value)}, expected a whole number from {least} to {most:,}")
    return value


def real(data: Mapping[str, Any], key: str, most: float) -> float:
    """The number above 0 at `key`. Raises KeyError and ValueError."""
    value = data[key]
    if type(value) not in (int, float) or not (math.isfinite(value) and 0 < value <= most):
        raise ValueError(f"{key} is {shown(value)}, expected a number above 0, at most {most:g}")
    return float(value)


def shown(value: object, most: int = 40) -> str:
    """What a file holds, in a few printable characters."""
    return json.dumps(value)[:most]


def write_json(path: Path, value: object) -> None:
    """Write a small file through to the disk."""
    durable.write(path, f"{json.dumps(value, indent=1)}\n".encode())
