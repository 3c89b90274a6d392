"""FLUX.2-klein's checkpoint folders: one folder a part, in the release's layout."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.engines.checkpoints import stored
from pixelkiln.worker.engines.checkpoints.stored import INDEX, Stored

TRANSFORMER, TEXT, VAE = PARTS = ("transformer", "text_encoder", "vae")
TOKENIZER = "tokenizer"
DIFFUSERS_INDEX = "diffusion_pytorch_model.safetensors.index.json"  # as the release names a part's


def part_files(folder: Path, part: str) -> list[Path]:
    """One part's safetensors files. Raises CheckpointError when one is missing or there is none."""
    home = folder / part
    return stored.weight_files(home, DIFFUSERS_INDEX if (home / DIFFUSERS_INDEX).exists() else INDEX)


def weight_files(folder: Path) -> list[Path]:
    """All parts' files."""
    return [file for part in PARTS for file in part_files(folder, part)]


def tensors(folder: Path, part: str) -> dict[str, Stored]:
    """What one part's files hold."""
    return stored.tensors(part_files(folder, part))
