"""How many bytes a render needs, from the config and the files, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from worker.engines.hidream.checkpoint import Stored
from worker.engines.hidream.config import PATCH_VALUES, TextConfig

FLOATS = {"BF16": 2, "F16": 2, "F32": 4}  # bytes of the types that are cast to the arithmetic's


@dataclass(frozen=True, slots=True)
class Load:
    """What one render puts through the model."""

    prompt: int  # tokens of one prefix
    patches: int  # of the target
    references: int = 0  # patches of all references
    branches: int = 1


def weight_bytes(stored: list[Stored], itemsize: int) -> int:
    """Bytes of tensors once in memory, floating-point ones at `itemsize`."""
    return sum(prod(one.shape) * itemsize if one.dtype in FLOATS else one.size for one in stored)


def prefix_bytes(config: TextConfig, load: Load, itemsize: int) -> int:
    """Keys and values of all branches' prompts."""
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * itemsize
    return load.branches * load.prompt * token


def step_bytes(config: TextConfig, load: Load, itemsize: int, fused: bool) -> int:
    """The most that one step's intermediates hold at once; `fused` is attention without a score matrix."""
    tokens = 1 + load.patches + load.references
    keys = load.prompt + tokens
    queries_width = config.num_attention_heads * config.head_dim
    keys_width = config.num_key_value_heads * config.head_dim
    residual = 2 * tokens * config.hidden_size * itemsize
    attention = (3 * tokens * queries_width + 4 * keys * keys_width) * itemsize
    attention += 2 * tokens * queries_width * 4  # rotation is float32
    if not fused:
        attention += 2 * config.num_attention_heads * tokens * keys * itemsize
    mlp = 4 * tokens * config.intermediate_size * itemsize
    states = (6 + 2 * load.branches) * load.patches * PATCH_VALUES * 4
    head = tokens * PATCH_VALUES * (4 + itemsize)
    return residual + states + max(attention, mlp, head)
