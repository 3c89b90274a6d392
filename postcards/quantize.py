"""Fewer bits for a checkpoint's decoder layers, as the engine reads them; all else stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx

from worker.engines.hidream.checkpoint import INDEX, weight_files
from worker.engines.hidream.manifest import NAME, digest

GROUP = 64


def quantize(source: Path, folder: Path, bits: int) -> Path:
    """Write `source` into `folder` with the layers' matrices affinely quantised in groups of 64."""
    folder.mkdir(parents=True)
    tensors: dict[str, mx.array] = {}
    for file in weight_files(source):
        loaded = mx.load(str(file))
        assert isinstance(loaded, dict)
        tensors |= loaded
    packed: dict[str, mx.array] = {}
    for name, value in tensors.items():
        if "_proj.weight" in name and ".layers." in name:
            stem = name.removesuffix(".weight")
            parts = mx.quantize(value, group_size=GROUP, bits=bits)
            packed |= dict(zip((name, f"{stem}.scales", f"{stem}.biases"), parts, strict=True))
        else:
            packed[name] = value
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.name != INDEX:
            shutil.copy(file, folder)
    mx.save_safetensors(str(folder / "model.safetensors"), packed, {"format": "mlx"})
    manifest = json.loads((source / NAME).read_text()) | {"bits": bits, "digest": digest(folder)}
    (folder / NAME).write_text(json.dumps(manifest, indent=2) + "\n")
    return folder
