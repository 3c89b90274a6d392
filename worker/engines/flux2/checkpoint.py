"""FLUX.2-klein's checkpoint folders: one folder a part, in the release's layout."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.engines.checkpoints import stored
from pixelkiln.worker.engines.checkpoints.stored import Stored

TRANSFORMER, TEXT, VAE = PARTS = ("transformer", "text_encoder", "vae")
TOKENIZER = "tokenizer"


def weight_files(folder: Path) -> list[Path]:
    """All parts' safetensors files. Raises CheckpointError when one is missing or there is none."""
    return [file for part in PARTS for file in stored.weight_files(folder / part)]


def tensors(folder: Path, part: str) -> dict[str, Stored]:
    """What one part's files hold."""
    return stored.tensors(stored.weight_files(folder / part))
