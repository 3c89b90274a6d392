"""HiDream-O1's checkpoint folders, of which two layouts load.

The release's, whose names are used throughout, and the MLX community's (names of an mlx-vlm Qwen3-VL folder
plus `extras/custom_heads.safetensors`).
"""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints import manifest, stored
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights

EXTRAS = "extras/custom_heads.safetensors"

_RENAMED = (  # MLX community prefix, released prefix
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.visual."),
    ("t_embedder1.fc1.", "model.t_embedder1.mlp.0."),
    ("t_embedder1.fc2.", "model.t_embedder1.mlp.2."),
    ("x_embedder.", "model.x_embedder."),
    ("final_layer2.", "model.final_layer2."),
)


def released_name(name: str) -> str:
    """The release's name for a tensor of either layout."""
    for community, released in _RENAMED:
        if name.startswith(community):
            return released + name.removeprefix(community)
    return name


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files. Raises CheckpointError when one is missing or there is none."""
    extras = folder / EXTRAS
    return [*stored.weight_files(folder), *([extras] if extras.exists() else [])]


def tensors(folder: Path) -> dict[str, Stored]:
    """What the folder holds, by released names."""
    return stored.tensors(weight_files(folder), released_name)


def weights(folder: Path, dtype: mx.Dtype, dequantize_from: int = 0) -> Weights:
    """The folder's tensors to be read, by released names; arguments as of Weights."""
    return Weights(folder, tensors(folder), dtype, dequantize_from)


def digest(folder: Path) -> str:
    """See manifest.digest."""
    return manifest.digest(folder, weight_files(folder))
