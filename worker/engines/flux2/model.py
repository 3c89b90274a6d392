"""FLUX.2-klein: text encoder, transformer and VAE as one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.configs import Qwen3Config, read_config
from pixelkiln.worker.engines.checkpoints.headers import Headers
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.flux2.checkpoint import TEXT, TRANSFORMER, VAE, tensors
from pixelkiln.worker.engines.flux2.config import TransformerConfig
from pixelkiln.worker.engines.flux2.latents import Vae, VaeConfig
from pixelkiln.worker.engines.flux2.text import DEPTHS, LAYERS
from pixelkiln.worker.engines.flux2.transformer import Transformer
from pixelkiln.worker.engines.mlx import qwen3
from pixelkiln.worker.engines.mlx.qwen3 import TextEncoder


@dataclass(frozen=True, slots=True)
class Config:
    """All parts' sizes."""

    transformer: TransformerConfig
    text: Qwen3Config
    vae: VaeConfig

    @classmethod
    def read(cls, folder: Path) -> Config:
        """Of a checkpoint folder. Raises CheckpointError, also where parts do not fit each other."""
        config = cls(
            TransformerConfig.read(folder / TRANSFORMER),
            read_config(folder / TEXT, Qwen3Config.parse),
            VaeConfig.read(folder / VAE),
        )
        text, transformer = config.text, config.transformer
        for ours, theirs, what in (
            (transformer.features, len(DEPTHS) * text.hidden_size, "joint_attention_dim, of the text"),
            (transformer.channels, config.vae.channels, "in_channels, of the VAE"),
        ):
            if ours != theirs:
                raise CheckpointError(f"{folder / TRANSFORMER}/config.json takes {ours} as {what} {theirs}")
        if text.num_hidden_layers < LAYERS:
            raise CheckpointError(f"{folder / TEXT}/config.json has fewer layers than {LAYERS}")
        return config


class Model:
    """A checkpoint folder in memory; the text encoder stays there with `keep` alone, see Staged.

    Raises CheckpointError that names the file or tensor and what config.json expects.
    """

    def __init__(
        self, folder: Path, config: Config, dtype: mx.Dtype, keep: bool = True, dequantize_from: int = 0
    ) -> None:
        self.config, self.dtype = config, dtype
        self.text = TextEncoder(
            folder / TEXT, tensors(folder, TEXT), config.text, LAYERS, dtype, keep, dequantize_from
        )
        weights = Weights(folder / TRANSFORMER, tensors(folder, TRANSFORMER), dtype, dequantize_from)
        self.transformer = Transformer(weights, config.transformer)
        weights.finish(ignore=())
        self.vae = Vae(Weights(folder / VAE, tensors(folder, VAE), dtype), config.vae)


def checked(folder: Path) -> dict[str, Headers]:
    """A folder's headers by part, held against its configs.

    Raises CheckpointError for a tensor that is missing, misshapen or no part of the model.
    """
    config = Config.read(folder)
    text = qwen3.checked(folder / TEXT, tensors(folder, TEXT), config.text, LAYERS)
    transformer, vae = (Headers(folder / part, tensors(folder, part)) for part in (TRANSFORMER, VAE))
    Transformer(transformer, config.transformer)
    transformer.finish(ignore=())
    Vae(vae, config.vae)
    return {TRANSFORMER: transformer, TEXT: text, VAE: vae}
