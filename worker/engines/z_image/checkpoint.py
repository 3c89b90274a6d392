"""Z-Image's checkpoint folders: the release's layout, a folder a part, whether released or converted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints import stored
from pixelkiln.worker.engines.checkpoints.headers import Headers
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx import qwen3
from pixelkiln.worker.engines.mlx.autoencoder import Decoder, Encoder
from pixelkiln.worker.engines.z_image.config import TEXT, TRANSFORMER, VAE, Config
from pixelkiln.worker.engines.z_image.transformer import Transformer

PARTS = (TRANSFORMER, TEXT, VAE)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of all parts. Raises CheckpointError when one is missing or a part has none."""
    return [file for part in PARTS for file in stored.weight_files(folder / part)]


def tensors(folder: Path, part: str) -> dict[str, Stored]:
    """What the folder of one part holds."""
    return stored.tensors(stored.weight_files(folder / part))


def weights(folder: Path, part: str, dtype: mx.Dtype, dequantize_from: int = 0) -> Weights:
    """The tensors of one part to be read; arguments as of Weights."""
    return Weights(folder / part, tensors(folder, part), dtype, dequantize_from)


@dataclass(frozen=True, slots=True)
class Checked:
    """A folder's headers by part, held against its config."""

    headers: dict[str, Headers]

    @property
    def widths(self) -> set[int]:
        """Bits of what is stored quantised."""
        return {bits for one in self.headers.values() for bits in one.widths}


def checked(folder: Path, config: Config | None = None) -> Checked:
    """A folder's headers. Raises CheckpointError for a tensor that is missing, misshapen or no part of it."""
    config = config or Config.read(folder)
    headers = {part: Headers(folder / part, tensors(folder, part)) for part in (TRANSFORMER, VAE)}
    Transformer(headers[TRANSFORMER], config.transformer)
    Decoder(headers[VAE], config.vae)
    Encoder(headers[VAE], config.vae)
    for one in headers.values():
        one.finish(ignore=())
    text = qwen3.checked(folder / TEXT, tensors(folder, TEXT), config.text, config.text_layers)
    return Checked({**headers, TEXT: text})
