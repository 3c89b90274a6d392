"""The one table from a model to its family. Importing it loads no family's MLX."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.family import Family
from pixelkiln.worker.engines.flux2.family import Flux2
from pixelkiln.worker.engines.hidream.family import HiDream
from pixelkiln.worker.engines.qwen_image.family import QwenImage
from pixelkiln.worker.engines.z_image.family import ZImage

FAMILIES: dict[str, Family] = {
    "hidream-o1-dev": HiDream(),
    "hidream-o1-dev-2604": HiDream(),
    "hidream-o1-full": HiDream(),
    "z-image-turbo": ZImage(),
    "qwen-image": QwenImage(),
    "qwen-image-edit-2511": QwenImage(),
    "qwen-image-edit-2509": QwenImage(),
    "flux2-klein-4b": Flux2(),
    "flux2-klein-base-4b": Flux2(),
    "demo": HiDream(),
}


def family_of(model: str) -> Family:
    """The family that renders `model`. Raises CheckpointError."""
    if model not in FAMILIES:
        raise CheckpointError(f"no engine for the model {model!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[model]


def family_in(folder: Path, model: str | None = None) -> Family:
    """The family of a checkpoint folder: by its kiln.json, else by `model`, else by how it is laid out.

    Raises CheckpointError where nothing tells.
    """
    if not folder.is_dir():
        what = "no folder" if folder.exists() else "not there"
        raise CheckpointError(f"{folder} is {what}: name the folder that holds the weights")
    if (folder / NAME).exists():
        return family_of(Manifest.read(folder).model)
    if model is not None:
        return family_of(model)
    for family in FAMILIES.values():
        if family.recognises(folder):
            return family
    raise CheckpointError(f"{folder} has no {NAME} and is laid out as no known model's release is")
