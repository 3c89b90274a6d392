"""How many bytes a render needs beside its weights, from the configs, before anything runs.

The counts follow the code: what is alive at the widest point of the prompt's run, of a reference's encoding,
of a block and of the decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from pixelkiln.worker.engines.checkpoints.configs import Qwen3Config
from pixelkiln.worker.engines.flux2.config import TransformerConfig
from pixelkiln.worker.engines.flux2.latents import PATCH
from pixelkiln.worker.engines.flux2.model import Config
from pixelkiln.worker.engines.flux2.positions import Grid
from pixelkiln.worker.engines.flux2.text import DEPTHS
from pixelkiln.worker.engines.flux2.tokens import LENGTH
from pixelkiln.worker.engines.mlx.autoencoder_memory import decoding, encoding
from pixelkiln.worker.engines.mlx.memory import Backend

SLACK = 1.05  # over what is counted: small arrays, and what an allocator rounds up
WAITING = 13  # widest buffers that a GPU has not given back, as measured on an H100
ALIVE = 3  # blocks: those submitted, and what the device has not given back


@dataclass(frozen=True, slots=True)
class Load:
    """What one render puts through the model."""

    grid: Grid  # of the target
    references: tuple[Grid, ...] = ()
    branches: int = 1  # 2 with guidance


def block_weights(config: TransformerConfig) -> int:
    """Values in one stream's matrices of a block, or in those of a single one."""
    return config.width * (4 * config.width + 3 * config.inner)


def dequantized_bytes(config: TransformerConfig, itemsize: int) -> int:
    """The blocks' weights that exist dequantised at once, where that is how they are multiplied."""
    streams = 2 * config.double_layers + config.single_layers
    return min(ALIVE, streams) * block_weights(config) * itemsize


def working_bytes(config: Config, load: Load, itemsize: int, text_layer: int, backend: Backend) -> int:
    """The most held at once beside the weights that stay: by the prompt, a reference, a step, the decoding.

    `text_layer` is the bytes of a text layer's weights, in memory for its turn.
    """
    transformer, vae = config.transformer, config.vae.layers
    target, references = prod(load.grid), sum(map(prod, load.references))
    tokens = LENGTH + target + references
    states = 5 * target * transformer.channels * 4
    kept = (load.branches * LENGTH + references) * transformer.width * itemsize  # embedded
    kept += tokens * transformer.head_size * 4  # rotation
    kept += references * transformer.channels * 4
    step = block_bytes(transformer, tokens, itemsize, backend)
    decoded = decoding(vae, _scaled(load.grid, PATCH), itemsize, backend)
    pixels = PATCH * vae.scale
    seen = max((encoding(vae, _scaled(one, pixels), itemsize, backend) for one in load.references), default=0)
    features = load.branches * LENGTH * len(DEPTHS) * config.text.hidden_size * itemsize
    run = text_layer + _layer(config.text, itemsize, backend)
    return int((max(features + max(run, seen), kept + states + max(step, decoded))) * SLACK)


def block_bytes(config: TransformerConfig, tokens: int, itemsize: int, backend: Backend) -> int:
    """What blocks hold at their widest over so many tokens."""
    if backend.fused:
        inner = tokens * config.inner * itemsize
        wide = tokens * config.width
        return 2 * wide * itemsize + max(7 * wide * itemsize + 2 * wide * 4, 4 * inner) + WAITING * inner
    # Measured: a block at its widest, and what the one submitted before it has not given back.
    scores = config.heads * tokens**2 * itemsize
    return scores + int(tokens * (17 * config.width + 4.5 * config.inner)) * itemsize


def _layer(config: Qwen3Config, itemsize: int, backend: Backend) -> int:
    queries = LENGTH * config.num_attention_heads * config.head_dim
    cached = LENGTH * config.num_key_value_heads * config.head_dim
    attention = (3 * queries + 4 * cached) * itemsize + 2 * queries * 4
    if not backend.fused:
        attention += (config.num_attention_heads + 1) * LENGTH**2 * itemsize  # scores and a mask
    inner = LENGTH * config.intermediate_size * itemsize
    kept = (2 + len(DEPTHS)) * LENGTH * config.hidden_size * itemsize
    return kept + max(attention, 4 * inner) + backend.waiting * inner


def _scaled(grid: Grid, by: int) -> Grid:
    return grid[0] * by, grid[1] * by
