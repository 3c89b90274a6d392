"""What a step costs in floating-point operations."""

from __future__ import annotations

from pixelkiln.worker.engines.hidream.config import PATCH_VALUES, TextConfig


def step_flops(config: TextConfig, prompt: int, patches: int, references: int = 0) -> int:
    """Floating-point operations of one branch's step over a cached prefix, a product and a sum being two.

    With n = 1 + patches + references generated tokens: 2 · n · the weights of the decoder's matrices,
    4 · n · (prompt + n) · heads · head_dim · layers for attention, and the heads' matrices over their tokens.
    """
    n, hidden = 1 + patches + references, config.hidden_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    layer = hidden * (2 * queries + 2 * keys) + 3 * hidden * config.intermediate_size
    attention = 4 * n * (prompt + n) * queries
    heads = 2 * patches * (hidden // 4) * (PATCH_VALUES + hidden) + 2 * n * hidden * PATCH_VALUES
    return config.num_hidden_layers * (2 * n * layer + attention) + heads
