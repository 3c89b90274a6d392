"""Latents as the transformer takes them: 2 × 2 places of the VAE's as one token, normalised by statistics.

The statistics are a batch norm's, kept beside the VAE; there is no other scale or shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelkiln.worker.engines.checkpoints.configs import AutoencoderConfig, expect, read_config
from pixelkiln.worker.engines.checkpoints.files import real
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.flux2.positions import Grid
from pixelkiln.worker.engines.mlx.autoencoder import Decoder, Encoder, from_pixels, shrunk, to_pixels

PATCH = 2  # places of the VAE along a token's side
UNUSED = ("bn.num_batches_tracked",)


@dataclass(frozen=True, slots=True)
class VaeConfig:
    """The VAE's sizes, and what its statistics need."""

    layers: AutoencoderConfig
    eps: float  # beside the variance

    @property
    def channels(self) -> int:
        """Of a token."""
        return self.layers.latents * PATCH**2

    @classmethod
    def read(cls, folder: Path) -> VaeConfig:
        """Read `folder`/config.json. Raises CheckpointError."""

        def parse(data: Mapping[str, Any]) -> VaeConfig:
            expect(data, patch_size=[PATCH, PATCH])
            return cls(AutoencoderConfig.parse(data), real(data, "batch_norm_eps", 1))

        return read_config(folder, parse)


class Vae:
    """Pictures to tokens, and tokens to pictures."""

    def __init__(self, weights: Weights, config: VaeConfig) -> None:
        self.encoder, self.decoder = Encoder(weights, config.layers), Decoder(weights, config.layers)
        mean, variance = (
            weights.tensor(f"bn.running_{one}", (config.channels,)).astype(mx.float32)
            for one in ("mean", "var")
        )
        self.mean, self.deviation = mean, mx.sqrt(variance + config.eps)
        weights.finish(ignore=UNUSED)

    def encode(self, picture: Image.Image) -> tuple[mx.array, Grid]:
        """An RGB picture to (tokens, channels) float32, evaluated, and how they stand."""
        tokens, grid = patched(self.encoder(from_pixels(np.asarray(picture))))
        tokens = (tokens - self.mean) / self.deviation
        mx.eval(tokens)
        return tokens, grid

    def decode(self, tokens: mx.array, grid: Grid) -> NDArray[np.uint8]:
        """(tokens, channels) to RGB, (height, width, 3)."""
        return to_pixels(self.decoder(self._places(tokens, grid)))

    def preview(self, tokens: mx.array, grid: Grid) -> NDArray[np.uint8]:
        """About that picture, at most 256 pixels wide and high: its latents are averaged first."""
        return to_pixels(self.decoder(shrunk(self._places(tokens, grid))))

    def _places(self, tokens: mx.array, grid: Grid) -> mx.array:
        return unpatched(tokens * self.deviation + self.mean, grid)


def patched(places: mx.array) -> tuple[mx.array, Grid]:
    """(rows, columns, latents) to tokens, (rows · columns / 4, 4 · latents), and their rows and columns.

    Channel c of the place at (dy, dx) in a token is the token's channel 4c + 2dy + dx.
    """
    rows, columns, latents = places.shape
    grid = (rows // PATCH, columns // PATCH)
    split = places.reshape(grid[0], PATCH, grid[1], PATCH, latents).transpose(0, 2, 4, 1, 3)
    return split.reshape(grid[0] * grid[1], -1), grid


def unpatched(tokens: mx.array, grid: Grid) -> mx.array:
    """The opposite of `patched`."""
    rows, columns = grid
    split = tokens.reshape(rows, columns, -1, PATCH, PATCH).transpose(0, 3, 1, 4, 2)
    return split.reshape(rows * PATCH, columns * PATCH, -1)
