"""Which tensors safetensors files hold, read from their headers alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pixelkiln.worker.engines.checkpoints.files import read_json
from pixelkiln.worker.engines.engine import CheckpointError

INDEX = "model.safetensors.index.json"
FLOATS = {"BF16", "F16", "F32"}  # stored types that are cast to the arithmetic's


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one tensor lies and what it is."""

    file: Path
    name: str  # as written in the file
    dtype: str
    shape: tuple[int, ...]
    size: int  # bytes
    start: int  # where its bytes begin in the file


def weight_files(folder: Path, index: str = INDEX) -> list[Path]:
    """The safetensors files of one folder, sorted: those that `index` there names, else all.

    Raises CheckpointError where one is missing or there is none.
    """
    path = folder / index
    if path.exists():
        weight_map = read_json(path).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{path} has no 'weight_map'")
        files = [folder / name for name in sorted(set(weight_map.values()))]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} has no *.safetensors file")
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing: {index} names it")
    return files


def read_header(file: Path) -> list[Stored]:
    """What a safetensors file holds, without its data. Raises CheckpointError for a broken or short file."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        stored = [
            Stored(
                file,
                name,
                entry["dtype"],
                tuple(entry["shape"]),
                entry["data_offsets"][1] - entry["data_offsets"][0],
                8 + length + entry["data_offsets"][0],
            )
            for name, entry in header.items()
        ]
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is not a safetensors file: {error}") from error
    if file.stat().st_size != end:
        raise CheckpointError(f"{file} has {file.stat().st_size} bytes, its header says {end}: copy it again")
    return stored


def tensors(files: Iterable[Path], named: Callable[[str], str] = str) -> dict[str, Stored]:
    """What the files hold, by the names that `named` gives to those written in them."""
    return {named(stored.name): stored for file in files for stored in read_header(file)}
