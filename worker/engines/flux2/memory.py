"""How many bytes a render needs beside its weights, from the configs, before anything runs.

The counts follow the code: what is alive at the widest point of a layer, of a step, and of the VAE's stages.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixelkiln.worker.engines.checkpoints.configs import AutoencoderConfig, Qwen3Config
from pixelkiln.worker.engines.flux2.config import TransformerConfig
from pixelkiln.worker.engines.flux2.tokens import LENGTH
from pixelkiln.worker.engines.mlx.autoencoder import CHUNK_BYTES, NORM_BYTES
from pixelkiln.worker.engines.mlx.convolution import STRIP_BYTES
from pixelkiln.worker.engines.mlx.memory import Backend

Side = tuple[int, int]  # rows, columns of a map


@dataclass(frozen=True, slots=True)
class Load:
    """What one render puts through the model, in tokens."""

    target: int
    references: int = 0
    branches: int = 1  # 2 with guidance


def step_bytes(config: TransformerConfig, load: Load, itemsize: int, backend: Backend) -> int:
    """The most that a step holds: two blocks of which one is submitted ahead, measured."""
    tokens = LENGTH + load.target + load.references
    states = 6 * load.target * config.channels * 4
    texts = load.branches * LENGTH * config.width * itemsize + load.references * config.width * itemsize
    turn = tokens * config.head_size * 4
    scores = 0 if backend.fused else config.heads * tokens**2 * itemsize
    return states + texts + turn + scores + int(tokens * (25 * config.width + 6.2 * config.inner)) * itemsize

