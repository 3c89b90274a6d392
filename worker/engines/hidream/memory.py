"""How many bytes a render needs, from the config and the file headers, before anything runs.

The counts follow the code: what is alive at the widest point of a layer, of a step and of the prompt's run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixelkiln.worker.engines.hidream.config import PATCH_VALUES, Config, TextConfig
from pixelkiln.worker.engines.hidream.decoder import TURN
from pixelkiln.worker.engines.mlx.memory import Backend
from pixelkiln.worker.engines.mlx.pacing import AHEAD

GROUP = 64  # weights that share a scale and a bias when quantised
SLACK = 1.1  # over what is counted: small arrays, and what an allocator rounds up
ALIVE = AHEAD + 4  # layers: those submitted, and what the device has not given back; measured on a GPU


@dataclass(frozen=True, slots=True)
class Load:
    """What one render puts through the model."""

    prompt: int  # tokens of one prefix, pads included
    patches: int  # of the target
    references: int = 0  # patches of all references
    pads: tuple[int, ...] = ()  # tokens of each reference's vision features
    branches: int = 1  # 2 with guidance


def weights_at(config: TextConfig, bits: int) -> int:
    """Bytes of the model without its vision tower, its decoder's matrices at `bits`, the rest in bfloat16."""
    hidden, matrices = config.hidden_size, config.num_hidden_layers * layer_weights(config)
    heads = hidden * (256 + hidden) + (hidden // 4) * (PATCH_VALUES + hidden) + hidden * PATCH_VALUES
    kept = 2 * (config.vocab_size * hidden + heads)
    return kept + (matrices * 2 if bits == 16 else matrices * bits // 8 + matrices // GROUP * 4)


def dequantized_bytes(config: TextConfig, itemsize: int) -> int:
    """The decoder layers' weights that exist dequantised at once, where that is how they are multiplied."""
    return min(ALIVE, config.num_hidden_layers) * layer_weights(config) * itemsize


def layer_weights(config: TextConfig) -> int:
    """Values in one decoder layer's matrices."""
    wide = config.num_attention_heads + config.num_key_value_heads
    return config.hidden_size * (2 * wide * config.head_dim + 3 * config.intermediate_size)


def prefix_bytes(config: TextConfig, load: Load, itemsize: int) -> int:
    """Keys and values of all branches' prompts."""
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * itemsize
    return load.branches * load.prompt * token


def working_bytes(config: Config, load: Load, itemsize: int, tower: int, backend: Backend) -> int:
    """The most held at once beside weights and prefixes: by the vision tower, the prompt's run or a step.

    `tower` is the bytes of the vision tower's weights, in memory only while it looks.
    """
    text = config.text
    generated = 1 + load.patches + load.references
    states = (6 + 2 * load.branches) * load.patches * PATCH_VALUES * 4  # float32: z, x̂0, v, noise, …
    head = generated * PATCH_VALUES * (4 + itemsize)
    step = states + max(_layer(text, generated, load.prompt + generated, itemsize, backend), head)
    turn = load.prompt if load.pads else min(load.prompt, TURN)
    run = _layer(text, turn, load.prompt, itemsize, backend)
    seen = tower + _tower(config.vision, load, itemsize, backend) if load.pads else 0
    return int(max(step, run, seen) * SLACK)


def _layer(config: TextConfig, tokens: int, keys: int, itemsize: int, backend: Backend) -> int:
    queries = tokens * config.num_attention_heads * config.head_dim
    cached = keys * config.num_key_value_heads * config.head_dim
    attention = (3 * queries + 4 * cached) * itemsize + 2 * queries * 4  # rotation is float32
    if not backend.fused:
        attention += (config.num_attention_heads * itemsize + 1) * tokens * keys  # scores and a mask
    inner = tokens * config.intermediate_size * itemsize
    residual = 2 * tokens * config.hidden_size * itemsize
    return residual + max(attention, 4 * inner) + backend.waiting * inner


def _tower(vision: Mapping[str, Any], load: Load, itemsize: int, backend: Backend) -> int:
    square = int(vision.get("spatial_merge_size", 2)) ** 2
    patches = sum(load.pads) * square
    hidden, inner = int(vision["hidden_size"]), int(vision["intermediate_size"])
    pixels = 2 * patches * PATCH_VALUES // 2 * (4 + itemsize)
    largest = 0 if backend.fused else max(load.pads) * square  # pictures attend to themselves, in turn
    scores = int(vision["num_heads"]) * largest**2 * itemsize
    return pixels + (8 * hidden + 3 * inner) * patches * itemsize + scores + backend.waiting * patches * inner
