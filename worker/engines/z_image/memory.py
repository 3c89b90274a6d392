"""How many bytes a render needs, from the config and the file headers, before anything runs.

The counts follow the code: what is alive at the widest point of the prompt's run, of a block, of encoding
and of decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixelkiln.worker.engines.checkpoints.configs import Qwen3Config
from pixelkiln.worker.engines.mlx.autoencoder_memory import decoding, encoding
from pixelkiln.worker.engines.mlx.memory import Backend
from pixelkiln.worker.engines.z_image.config import Config, TransformerConfig
from pixelkiln.worker.engines.z_image.positions import padded
from pixelkiln.worker.engines.z_image.tokens import MOST

SLACK = 1.05  # over what is counted: small arrays, and what an allocator rounds up
ALIVE = 3  # blocks: those submitted, and what the device has not given back


@dataclass(frozen=True, slots=True)
class Load:
    """What one render puts through the model."""

    text: int  # tokens
    grid: tuple[int, int]  # rows, columns of patches
    steps: int
    picture: bool = False  # whether it begins from one


def block_weights(config: TransformerConfig) -> int:
    """Values in one block's matrices."""
    return 4 * config.dim**2 + 3 * config.dim * config.inner


def layer_weights(config: Qwen3Config) -> int:
    """Values in one text layer's matrices."""
    wide = config.num_attention_heads + config.num_key_value_heads
    return config.hidden_size * (2 * wide * config.head_dim + 3 * config.intermediate_size)


def dequantized_bytes(config: Config, itemsize: int, ours: bool = False) -> int:
    """The blocks' weights that exist dequantised at once, where that is how they are multiplied.

    `ours`: by mlx.cuda's kernel, whose buffers an H100 gave back sooner.
    """
    transformer = config.transformer
    alive = 1 if ours else min(ALIVE, transformer.layers + transformer.refiners)
    return alive * block_weights(transformer) * itemsize


def working_bytes(
    config: Config, load: Load, itemsize: int, text_layer: int, encoder: int, backend: Backend
) -> int:
    """The most held at once beside the weights that stay: by the prompt, a picture's encoding, a step, the
    decoding.

    `text_layer` and `encoder` are the bytes of the weights of a text layer and of the VAE's encoder, in
    memory for their turn.
    """
    transformer, side = config.transformer, config.transformer.patch
    rows, columns = load.grid
    latents, patches = (rows * side, columns * side), rows * columns
    tokens = padded(patches) + padded(load.text)
    head = transformer.dim // transformer.heads
    blocks = transformer.layers + transformer.refiners
    kept = padded(load.text) * transformer.dim * itemsize  # the refined text
    kept += 2 * (padded(patches) + tokens) * (head // 2) * 4  # rotations
    kept += load.steps * (4 * blocks + 1) * transformer.dim * itemsize  # modulations
    states = 5 * patches * transformer.values * 4
    step = _block(transformer, tokens, itemsize, backend)
    seen = encoder + encoding(config.vae, (rows * config.grid, columns * config.grid), itemsize, backend)
    decoded = decoding(config.vae, latents, itemsize, backend)
    run = text_layer + _layer(config.text, min(load.text, MOST), itemsize, backend)
    render = kept + states + max(step, decoded)
    return int(max(run, seen if load.picture else 0, render) * SLACK)


def _block(config: TransformerConfig, tokens: int, itemsize: int, backend: Backend) -> int:
    wide, inner = tokens * config.dim, tokens * config.inner * itemsize
    attention = 7 * wide * itemsize + 2 * wide * 4  # rotation is float32
    if not backend.fused:
        attention += 2 * config.heads * tokens**2 * itemsize
    waiting = 14 if backend.fused else backend.waiting  # as measured on an H100
    return 2 * wide * itemsize + max(attention, 4 * inner) + waiting * inner


def _layer(config: Qwen3Config, tokens: int, itemsize: int, backend: Backend) -> int:
    queries = tokens * config.num_attention_heads * config.head_dim
    cached = tokens * config.num_key_value_heads * config.head_dim
    attention = (3 * queries + 4 * cached) * itemsize + 2 * queries * 4
    if not backend.fused:
        attention += (config.num_attention_heads + 1) * tokens**2 * itemsize  # scores and a mask
    inner = tokens * config.intermediate_size * itemsize
    return 2 * tokens * config.hidden_size * itemsize + max(attention, 4 * inner) + backend.waiting * inner
