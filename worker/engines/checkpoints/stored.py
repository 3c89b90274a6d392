"""Which tensors safetensors files hold, read from their headers alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from pixelkiln.worker.engines.checkpoints.files import read_json, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError

INDEX = "model.safetensors.index.json"  # as we write it, and transformers
INDEXES = (INDEX, "diffusion_pytorch_model.safetensors.index.json")
FLOATS = {"BF16", "F16", "F32"}  # stored types that are cast to the arithmetic's
_READ = {*FLOATS, "U32", "I64"}  # what is quantised; positions that some releases keep and nothing reads
MAX_HEADER = 100_000_000  # bytes, safetensors' own limit
MAX_FILE = 2**50  # bytes
MAX_SHAPE = 8  # dimensions

_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
_BYTES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}  # of a value


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one tensor lies and what it is."""

    file: Path
    name: str  # as written in the file
    dtype: str
    shape: tuple[int, ...]
    size: int  # bytes
    start: int  # where its bytes begin in the file


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one folder, sorted: those that the index there names, else all that show.

    Raises CheckpointError where one is missing or there is none.
    """
    path = next((folder / name for name in INDEXES if (folder / name).exists()), None)
    if path is not None:
        weight_map = read_json(path).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{path} has no 'weight_map'")
        for name in weight_map.values():
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
                raise CheckpointError(f"{path} names {shown(name)}, which is no weight file of this folder")
        files = [folder / name for name in sorted(set(weight_map.values()))]
    else:
        # What macOS keeps beside a file on a foreign disk is called as that file, behind ._
        files = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))
    if not files:
        raise CheckpointError(f"{folder} has no *.safetensors file")
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} is missing: {path.name if path else 'a link'} names it")
    return files


def read_header(file: Path) -> list[Stored]:
    """What a safetensors file holds, without its data. Raises CheckpointError for a broken or short file."""
    try:
        with file.open("rb") as stream:
            size = file.stat().st_size
            begin = stream.read(8)
            if begin == b"version ":
                raise ValueError("it is a pointer of Git LFS, `git lfs pull` brings the file itself")
            length = int.from_bytes(begin, "little")
            if length > size:
                raise ValueError("its header is longer than the file")
            if length > MAX_HEADER:
                raise ValueError(f"its header has more than {MAX_HEADER:,} bytes")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        stored = [_stored(file, 8 + length, name, entry) for name, entry in header.items()]
        end = 8 + length
        for one in sorted(stored, key=lambda one: (one.start, one.size)):
            if one.start != end:
                raise ValueError(f"tensor {one.name} does not begin where the one before it ends")
            end += one.size
    except KeyError as error:
        raise CheckpointError(f"{file} is not a safetensors file: a tensor has no {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file} is not a safetensors file: {error}") from error
    if size != end:
        raise CheckpointError(f"{file} has {size} bytes, its header says {end}: copy it again")
    return stored


def _stored(file: Path, data: int, name: str, entry: dict[str, Any]) -> Stored:
    """One entry of a header, checked. Raises KeyError, TypeError and ValueError."""
    if not (name.isprintable() and name.isascii()):
        raise ValueError(f"a tensor is called {shown(name)}")
    if entry["dtype"] not in _BYTES:
        raise ValueError(f"tensor {name} is {shown(entry['dtype'])}, a type that is not read")
    if len(entry["shape"]) > MAX_SHAPE:
        raise ValueError(f"tensor {name} has {len(entry['shape'])} dimensions")
    shape = tuple(whole({"shape": side}, "shape", 2**31 - 1, 0) for side in entry["shape"])
    begin, end = (whole({"data_offsets": at}, "data_offsets", MAX_FILE, 0) for at in entry["data_offsets"])
    if end - begin != prod(shape) * _BYTES[entry["dtype"]]:
        raise ValueError(f"tensor {name} of shape {list(shape)} has {end - begin:,} bytes")
    return Stored(file, name, entry["dtype"], shape, end - begin, data + begin)


def tensors(files: Iterable[Path], named: Callable[[str], str] = str) -> dict[str, Stored]:
    """What the files hold, by the names that `named` gives to those written in them.

    Raises CheckpointError for a tensor that is there twice, and for one of a type that nothing here computes.
    """
    found: dict[str, Stored] = {}
    for stored in (stored for file in files for stored in read_header(file)):
        other = found.setdefault(named(stored.name), stored)
        if other is not stored:
            raise CheckpointError(
                f"{stored.file.parent}: tensor {stored.name} is in {other.file.name} and {stored.file.name}:"
                " move the file that does not belong there out of the folder"
            )
        if stored.dtype not in _READ:
            raise CheckpointError(
                f"{stored.file}: tensor {stored.name} is {stored.dtype}, expected a float of 16 or 32 bits:"
                " pull the 16-bit release, and convert that to fewer bits"
            )
    return found
