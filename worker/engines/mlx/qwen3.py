"""Qwen3's text layers: a decoder of its own in one family, the text encoder of others.

Pre-norm, RMS norms per head on queries and keys, rotation in halves, grouped queries, SwiGLU, no biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.configs import Qwen3Config
from pixelkiln.worker.engines.checkpoints.digests import check_unchanged, signature
from pixelkiln.worker.engines.checkpoints.headers import Headers
from pixelkiln.worker.engines.checkpoints.rows import rows
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.elementwise import fused
from pixelkiln.worker.engines.mlx.layers import RMSNorm
from pixelkiln.worker.engines.mlx.rotary import Halves, angles, halves
from pixelkiln.worker.engines.mlx.staged import Staged

Mask = mx.array | str | None  # (tokens, keys) True where attended, or 'causal', or all
KeysValues = tuple[mx.array, mx.array]  # each (1, key-value heads, tokens, head_dim), keys already rotated

TABLE = "model.embed_tokens.weight"


class Attention:
    """Grouped-query attention with per-head RMS norms on queries and keys."""

    def __init__(self, weights: Weights, name: str, config: Qwen3Config) -> None:
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
        self, x: mx.array, rotation: Halves, past: KeysValues | None, mask: Mask
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

    def __init__(self, weights: Weights, name: str, config: Qwen3Config) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        self.input_norm = weights.norm(f"{name}.input_layernorm", hidden, config.rms_norm_eps)
        self.attention = Attention(weights, f"{name}.self_attn", config)
        self.mlp_norm = weights.norm(f"{name}.post_attention_layernorm", hidden, config.rms_norm_eps)
        self.gate_up_proj = weights.stacked(
            [f"{name}.mlp.gate_proj", f"{name}.mlp.up_proj"], hidden, [inner, inner]
        )
        self.down_proj = weights.linear(f"{name}.mlp.down_proj", inner, hidden)

    def __call__(
        self, x: mx.array, rotation: Halves, past: KeysValues | None, mask: Mask
    ) -> tuple[mx.array, KeysValues]:
        """(tokens, hidden) to the same, with the layer's keys and values."""
        attended, kept = self.attention(self.input_norm(x), rotation, past, mask)
        x = x + attended
        gate, up = self.gate_up_proj(self.mlp_norm(x))
        return x + self.down_proj(swiglu(gate, up)), kept


class TextEncoder:
    """The first `layers` layers of a Qwen3 folder, over whole prompts.

    The layers are Staged: kept, or read for each prompt. Of the token table only the rows that a prompt
    names are read, from its file. What lies in the folder is checked now. Raises CheckpointError.
    """

    def __init__(
        self,
        folder: Path,
        stored: Mapping[str, Stored],
        config: Qwen3Config,
        layers: int,
        dtype: mx.Dtype,
        keep: bool,
        dequantize_from: int = 0,
    ) -> None:
        checked(folder, stored, config, layers)
        self.config, self.dtype = config, dtype
        self._table = stored[TABLE]
        files = sorted({one.file for one in stored.values()})
        self._unchanged = partial(check_unchanged, folder, files, signature(folder, files))

        def load(i: int) -> tuple[int, Layer]:
            weights = Weights(folder, stored, dtype, dequantize_from)
            layer = Layer(weights, f"model.layers.{i}", config)
            weights.finish(ignore=("",))  # the rest is other layers'
            return i, layer

        self.staged = Staged([partial(load, i) for i in range(layers)], keep)

    def __call__(self, ids: Sequence[int], after: Sequence[int], padded: int = 0) -> list[mx.array]:
        """Hidden states, (tokens, hidden) each and evaluated, after so many layers as `after` lists, rising.

        0 is the token table's, the last must be all layers. The last `padded` tokens are pads, which nothing
        attends to. Raises CheckpointError where the folder's files have changed.
        """
        self._unchanged()  # what is read now must be what was loaded
        tokens, head = len(ids), self.config.head_dim
        rotation = halves(angles(np.arange(tokens)[:, None], (head,), self.config.rope_theta))
        mask: Mask = "causal"
        if padded:
            places = mx.arange(tokens)
            mask = (places[:, None] >= places) & (places < tokens - padded)

        def run(part: tuple[int, Layer], states: list[mx.array]) -> list[mx.array]:
            before, layer = part
            x, _ = layer(states[-1], rotation, None, mask)
            return [*(states if before in after else states[:-1]), x]

        return self.staged.through([rows(self._table, ids).astype(self.dtype)], run)


def checked(folder: Path, stored: Mapping[str, Stored], config: Qwen3Config, layers: int) -> Headers:
    """The folder's headers, held against its config. Raises CheckpointError."""
    headers = Headers(folder, stored)
    headers.tensor(TABLE, (config.vocab_size, config.hidden_size))
    for i in range(layers):
        Layer(headers, f"model.layers.{i}", config)
    headers.finish(ignore=unused(config, layers))
    return headers


def unused(config: Qwen3Config, layers: int) -> tuple[str, ...]:
    """How the names of tensors begin that no feature after `layers` layers needs."""
    return (
        "model.norm.",
        "lm_head.",
        *(f"model.layers.{i}." for i in range(layers, config.num_hidden_layers)),
    )
