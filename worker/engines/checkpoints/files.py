"""The small files of a checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.host import durable


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object of a checkpoint folder. Raises CheckpointError that names the file."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return data


def write_json(path: Path, value: object) -> None:
    """Write a small file through to the disk."""
    durable.write(path, f"{json.dumps(value, indent=1)}\n".encode())
