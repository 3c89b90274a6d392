from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pixelkiln.worker.engines.checkpoints.manifest import Manifest, digest
from pixelkiln.worker.engines.engine import CheckpointError


def test_what_is_written_is_read(copied: Path) -> None:
    manifest = Manifest.read(copied)
    assert (manifest.recipe, manifest.bits, manifest.source) == ("dev", 16, "test")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bits": 3}, "bits"),
        ({"digest": "md5:0"}, "digest"),
        ({"schema": 2}, "schema"),
    ],
)
def test_a_wrong_entry_is_named(copied: Path, change: dict[str, object], says: str) -> None:
    path = copied / "kiln.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(CheckpointError, match=rf"kiln\.json: {says}: "):
        Manifest.read(copied)


def test_the_digest_is_of_names_sizes_and_contents(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    data = len(header).to_bytes(8, "little") + header + b"x"
    (tmp_path / "model.safetensors").write_bytes(data)
    said = hashlib.sha256(b"model.safetensors\0" + len(data).to_bytes(8, "little") + data).hexdigest()
    assert digest(tmp_path, tmp_path.iterdir()) == f"sha256:{said}"
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    assert digest(tmp_path, tmp_path.iterdir()) != f"sha256:{said}"
