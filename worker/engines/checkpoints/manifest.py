"""kiln.json: what a checkpoint folder is. config.json cannot tell one recipe's weights from another's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pixelkiln.worker.engines.checkpoints.files import read_json
from pixelkiln.worker.engines.engine import CheckpointError

NAME = "kiln.json"
CHUNK = 8 * 2**20  # bytes


class Manifest(BaseModel):
    """A folder's own description, written by `kiln models pull` and `kiln models convert`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    model: str  # as jobs name it
    recipe: str  # how its family samples these weights
    bits: Literal[4, 5, 6, 8, 16]
    mixed: bool = False  # whether the most sensitive layers have more bits
    source: str  # where the weights came from
    revision: str
    lora: str | None = None  # what was fused into them: file and sha256
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]  # of the weights, see `digest`

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read `folder`/kiln.json. Raises CheckpointError that says what is wrong and how to mend it."""
        path = folder / NAME
        if not path.exists():
            raise CheckpointError(
                f"{path} is missing, so nothing says which recipe these weights are for: "
                f"run 'kiln models convert {folder} <new folder> --bits 16 --model NAME'"
            )
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "it"
            raise CheckpointError(f"{path}: {field}: {first['msg']}") from error


def digest(folder: Path, files: Iterable[Path]) -> str:
    """sha256 over weight files in order of their names: name, a zero byte, length (8 bytes), contents.

    Names are relative to `folder`.
    """
    total = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in files):
        total.update(name.encode() + b"\0")
        total.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as stream:
            while block := stream.read(CHUNK):
                total.update(block)
    return f"sha256:{total.hexdigest()}"
