"""Z-Image in memory: what runs every step stays, the text encoder does where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelkiln.worker.engines.mlx.autoencoder import Decoder, Encoder, from_pixels, shrunk, to_pixels
from pixelkiln.worker.engines.mlx.qwen3 import TextEncoder
from pixelkiln.worker.engines.mlx.staged import Staged
from pixelkiln.worker.engines.z_image import checkpoint
from pixelkiln.worker.engines.z_image.config import TEXT, TRANSFORMER, VAE, Config
from pixelkiln.worker.engines.z_image.latents import to_map, to_patches
from pixelkiln.worker.engines.z_image.positions import text_positions
from pixelkiln.worker.engines.z_image.transformer import Transformer

Grid = tuple[int, int]  # rows, columns of patches


class Model:
    """A checkpoint folder in memory. Raises CheckpointError that names file or tensor."""

    def __init__(
        self, folder: Path, config: Config, dtype: mx.Dtype, dequantize_from: int = 0, keep: bool = True
    ) -> None:
        self.config = config
        self.text_encoder = TextEncoder(
            folder / TEXT,
            checkpoint.tensors(folder, TEXT),
            config.text,
            config.text_layers,
            dtype,
            keep,
            dequantize_from,
        )
        weights = checkpoint.weights(folder, TRANSFORMER, dtype, dequantize_from)
        self.transformer = Transformer(weights, config.transformer)
        weights.finish(ignore=())
        weights = checkpoint.weights(folder, VAE, dtype)
        self.decoder = Decoder(weights, config.vae)
        weights.finish(ignore=("encoder.",))

        def encoder() -> Encoder:
            weights = checkpoint.weights(folder, VAE, dtype)
            made = Encoder(weights, config.vae)
            weights.finish(ignore=("decoder.",))
            return made

        self._encoder = Staged([encoder], keep=False)

    def features(self, ids: Sequence[int]) -> mx.array:
        """(tokens, width) of a prompt's ids, evaluated."""
        (found,) = self.text_encoder(ids, [self.config.text_layers])
        return found

    def text(self, ids: Sequence[int]) -> mx.array:
        """What the transformer's steps see of a prompt: (tokens and pads, dim), evaluated."""
        turned = self.transformer.rotation(text_positions(len(ids)))
        made = self.transformer.text(self.features(ids), turned)
        mx.eval(made)
        return made

    def encode(self, picture: Image.Image) -> mx.array:
        """The latents of an RGB picture, as patches, (n, values) float32, evaluated."""
        encoded = self._encoder.through(from_pixels(np.asarray(picture)), lambda part, x: part(x))
        latents = (encoded - self.config.shifting) * self.config.scaling
        return to_patches(latents, self.config.transformer.patch)

    def decode(self, patches: mx.array, grid: Grid) -> NDArray[np.uint8]:
        """The picture of latents."""
        return to_pixels(self.decoder(self._scaled(patches, grid)))

    def preview(self, patches: mx.array, grid: Grid) -> NDArray[np.uint8]:
        """About that picture, at most 256 pixels wide and high: its latents are averaged first."""
        return to_pixels(self.decoder(shrunk(self._scaled(patches, grid))))

    def _scaled(self, patches: mx.array, grid: Grid) -> mx.array:
        latents = to_map(patches, *grid, self.config.transformer.patch)
        return latents / self.config.scaling + self.config.shifting
