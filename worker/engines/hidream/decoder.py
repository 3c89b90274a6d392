"""The Qwen3-VL text decoder, split where HiDream-O1 lets it be split.

Prompt tokens attend causally and never see a generated token, so their keys and values are computed once
(`prefix`). Generated tokens attend to everything, so a step runs only them, without a mask (`step`). This is
exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.hidream.config import TextConfig
from pixelkiln.worker.engines.hidream.rope import Rotation
from pixelkiln.worker.engines.mlx.elementwise import fused
from pixelkiln.worker.engines.mlx.layers import RMSNorm
from pixelkiln.worker.engines.mlx.pacing import AHEAD, Pace

Mask = mx.array | str | None  # (tokens, keys) True where attended, or 'causal', or all
KeysValues = tuple[mx.array, mx.array]  # each (1, key-value heads, tokens, head_dim), keys already rotated


@dataclass(frozen=True, slots=True)
class Added:
    """Features to add to some of the prefix's hidden states after the first decoder layers (DeepStack)."""

    at: mx.array  # (n,) positions in the prefix
    features: tuple[mx.array, ...]  # one (n, hidden) per layer, from the first


class Attention:
    """Grouped-query attention with per-head RMS norms on queries and keys."""

    def __init__(self, weights: Weights, name: str, config: TextConfig) -> None:
        self.heads, self.groups, self.size = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        queries, keys = self.heads * self.size, self.groups * self.size
        self.qkv_proj = weights.stacked(
            [f"{name}.{one}_proj" for one in "qkv"], config.hidden_size, [queries, keys, keys]
        )
        self.o_proj = weights.linear(f"{name}.o_proj", self.heads * self.size, config.hidden_size)
        self.q_norm = weights.norm(f"{name}.q_norm", self.size, config.rms_norm_eps)
        self.k_norm = weights.norm(f"{name}.k_norm", self.size, config.rms_norm_eps)

    def __call__(
        self, x: mx.array, rotation: Rotation, past: KeysValues | None, mask: Mask
    ) -> tuple[mx.array, KeysValues]:
        """(tokens, hidden) to the same, and the keys and values of `past` followed by these tokens'."""
        q, k, v = self.qkv_proj(x)
        queries = rotation(self._split(q, self.heads, self.q_norm))
        keys = rotation(self._split(k, self.groups, self.k_norm))
        values = self._split(v, self.groups)
        if past is None:
            values = mx.contiguous(values)  # kept without the queries and keys computed beside them
        else:
            keys = mx.concatenate([past[0], keys], axis=2)
            values = mx.concatenate([past[1], values], axis=2)
        out = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=self.size**-0.5, mask=mask)
        return self.o_proj(out[0].swapaxes(0, 1).flatten(1)), (keys, values)

    def _split(self, x: mx.array, heads: int, norm: RMSNorm | None = None) -> mx.array:
        x = x.reshape(len(x), heads, self.size)
        return (x if norm is None else norm(x)).swapaxes(0, 1)[None]


@fused
def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """SiLU of `gate` times `up`."""
    return gate * mx.sigmoid(gate) * up


class Layer:
    """One pre-norm decoder layer: attention, then SwiGLU."""

    def __init__(self, weights: Weights, name: str, config: TextConfig) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        self.input_norm = weights.norm(f"{name}.input_layernorm", hidden, config.rms_norm_eps)
        self.attention = Attention(weights, f"{name}.self_attn", config)
        self.mlp_norm = weights.norm(f"{name}.post_attention_layernorm", hidden, config.rms_norm_eps)
        self.gate_up_proj = weights.stacked(
            [f"{name}.mlp.gate_proj", f"{name}.mlp.up_proj"], hidden, [inner, inner]
        )
        self.down_proj = weights.linear(f"{name}.mlp.down_proj", inner, hidden)

    def __call__(
        self, x: mx.array, rotation: Rotation, past: KeysValues | None, mask: Mask
    ) -> tuple[mx.array, KeysValues]:
        """(tokens, hidden) to the same, with the layer's keys and values."""
        attended, kept = self.attention(self.input_norm(x), rotation, past, mask)
        x = x + attended
        gate, up = self.gate_up_proj(self.mlp_norm(x))
        return x + self.down_proj(swiglu(gate, up)), kept


class Decoder:
    """Token table, layers and final norm. Layers are evaluated as they are built, see pacing."""

    def __init__(self, weights: Weights, config: TextConfig, name: str = "model.language_model") -> None:
        self.embed_tokens = weights.embedding(f"{name}.embed_tokens", config.vocab_size, config.hidden_size)
        self.layers = [Layer(weights, f"{name}.layers.{i}", config) for i in range(config.num_hidden_layers)]
        self.norm = weights.norm(f"{name}.norm", config.hidden_size, config.rms_norm_eps)
        self.ahead = AHEAD

    def prefix(self, x: mx.array, rotation: Rotation, added: Added | None = None) -> list[KeysValues]:
        """Run the prompt's embeddings (tokens, hidden) causally; return each layer's keys and values."""
        cache, pace = [], Pace(self.ahead)
        for i, layer in enumerate(self.layers):
            x, kept = layer(x, rotation, None, "causal")
            cache.append(kept)
            if added is not None and i < len(added.features):
                x = x.at[added.at].add(added.features[i].astype(x.dtype))
            if i + 1 < len(self.layers):  # nothing reads the last layer's output
                pace(x, *kept)
        return cache

    def step(self, x: mx.array, rotation: Rotation, prefix: Sequence[KeysValues]) -> mx.array:
        """Run the generated tokens (tokens, hidden) over a prefix; return their normalised hidden states."""
        pace = Pace(self.ahead)
        for layer, past in zip(self.layers, prefix, strict=True):
            x, _ = layer(x, rotation, past, None)
            pace(x)
        return self.norm(x)
