"""HiDream-O1: the decoder and its heads as one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.headers import Headers
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.hidream import checkpoint
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.decoder import Decoder
from pixelkiln.worker.engines.hidream.heads import PixelsIn, PixelsOut, TimestepEmbedder
from pixelkiln.worker.engines.mlx.qwen3 import KeysValues
from pixelkiln.worker.engines.mlx.rotary import Halves

UNUSED = ("lm_head.", "model.visual.")  # never run; and read by whoever needs the vision tower


class Model:
    """A checkpoint folder in memory, without its vision tower.

    `weights` stand in for the folder's own: random ones, or its headers alone. Raises CheckpointError that
    names the file or tensor and what config.json expects.
    """

    def __init__(self, folder: Path, config: Config, dtype: mx.Dtype, weights: Weights | None = None) -> None:
        self.config = config
        self.dtype = dtype
        weights = weights or checkpoint.weights(folder, dtype)
        hidden = config.text.hidden_size
        self.decoder = Decoder(weights, config.text)
        self.timestep = TimestepEmbedder(weights, hidden)
        self.pixels_in = PixelsIn(weights, hidden)
        self.pixels_out = PixelsOut(weights, hidden)
        weights.finish(ignore=UNUSED)

    def predict(self, tokens: Sequence[mx.array], rotation: Halves, prefix: Sequence[KeysValues]) -> mx.array:
        """Clean patches at every generated token, (tokens, 3072) float32.

        `tokens` are embeddings in sequence order: the timestep's, the target's patches, the references'.
        """
        return self.pixels_out(self.decoder.step(mx.concatenate(list(tokens)), rotation, prefix))


def checked(folder: Path) -> Headers:
    """A folder's headers, held against its config.

    Raises CheckpointError for a tensor that is missing, misshapen or no part of the model.
    """
    headers = Headers(folder, checkpoint.tensors(folder))
    Model(folder, Config.read(folder), mx.bfloat16, headers)
    return headers
