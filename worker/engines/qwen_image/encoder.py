"""Qwen2.5-VL's language model as a text encoder: the features behind its last norm, of a prompt at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.rows import rows
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.layers import RMSNorm
from pixelkiln.worker.engines.mlx.memory import weight_bytes
from pixelkiln.worker.engines.mlx.qwen3 import swiglu
from pixelkiln.worker.engines.mlx.rotary import Halves, halves
from pixelkiln.worker.engines.mlx.staged import Staged
from pixelkiln.worker.engines.qwen_image.config import Config, TextConfig
from pixelkiln.worker.engines.qwen_image.packing import Grid
from pixelkiln.worker.engines.qwen_image.tokens import Encoded, Positions
from pixelkiln.worker.engines.qwen_image.vision import VisionTower

TABLE = "model.embed_tokens.weight"


def rotation(positions: Positions, config: TextConfig) -> Halves:
    """The rotation of tokens at `positions`: the first frequencies follow t, then h, then w."""
    half = config.head_dim // 2
    frequencies = config.theta ** (-np.arange(half, dtype=np.float64) / half)
    followed = positions[np.repeat(np.arange(3), config.sections)].T
    return halves(followed * frequencies)


class Layer:
    """One decoder layer."""

    def __init__(self, weights: Weights, index: int, config: TextConfig) -> None:
        name = f"model.layers.{index}"
        self.head_dim = config.head_dim
        hidden, keys = config.hidden, config.key_heads * config.head_dim
        attention = f"{name}.self_attn"
        self.norm = weights.norm(f"{name}.input_layernorm", hidden, config.eps)
        self.q = weights.linear(f"{attention}.q_proj", hidden, hidden, bias=True)
        self.k = weights.linear(f"{attention}.k_proj", hidden, keys, bias=True)
        self.v = weights.linear(f"{attention}.v_proj", hidden, keys, bias=True)
        self.o = weights.linear(f"{attention}.o_proj", hidden, hidden)
        self.mlp_norm = weights.norm(f"{name}.post_attention_layernorm", hidden, config.eps)
        self.gate = weights.linear(f"{name}.mlp.gate_proj", hidden, config.inner)
        self.up = weights.linear(f"{name}.mlp.up_proj", hidden, config.inner)
        self.down = weights.linear(f"{name}.mlp.down_proj", config.inner, hidden)

    def __call__(self, x: mx.array, turn: Halves) -> mx.array:
        """(tokens, hidden) to the same."""
        n = self.norm(x)
        q, k, v = (
            one.reshape(1, len(x), -1, self.head_dim).swapaxes(1, 2)
            for one in (self.q(n), self.k(n), self.v(n))
        )
        out = mx.fast.scaled_dot_product_attention(
            turn(q), turn(k), v, scale=self.head_dim**-0.5, mask="causal"
        )
        x = x + self.o(out.swapaxes(1, 2).reshape(x.shape))
        n = self.mlp_norm(x)
        return x + self.down(swiglu(self.gate(n), self.up(n)))


class TextEncoder:
    """The language model without its head, and the vision tower, of a checkpoint folder.

    Their parts are Staged: kept, or read for each prompt. Of the token table only the rows that a
    prompt names are read, from its file. Raises CheckpointError.
    """

    def __init__(
        self,
        folder: Path,
        stored: Mapping[str, Stored],
        config: Config,
        dtype: mx.Dtype,
        keep: bool,
        dequantize_from: int = 0,
    ) -> None:
        self._config, self._dtype = config, dtype
        self._bytes = [weight_bytes(part, dtype.size) for part in parts(stored)]
        self._table = stored[TABLE]

        def opened() -> Weights:
            return Weights(folder, stored, dtype, dequantize_from)

        def layer(index: int) -> Layer:
            weights = opened()
            made = Layer(weights, index, config.text)
            weights.finish(ignore=("",))  # the rest is other layers'
            return made

        def tower() -> VisionTower:
            weights = opened()
            made = VisionTower(weights, config.vision)
            weights.finish(ignore=("",))
            return made

        self._tower = Staged([tower], keep)
        self._layers = Staged([partial(layer, i) for i in range(config.text.layers)], keep)
        weights = opened()
        self._norm = final_norm(weights, config.text)
        weights.finish(ignore=("",))

    def keep(self, whether: bool) -> None:
        """Keep the parts in memory from their next turn on, or free them now and after each turn."""
        for staged in (self._tower, self._layers):
            staged.keep = whether
            if not whether:
                staged.free()

    @property
    def held(self) -> int:
        """Bytes of the weights that are in memory."""
        tower, layers = self._bytes
        return tower * self._tower.kept + layers * self._layers.kept // self._config.text.layers

    @property
    def told(self) -> str:
        """As a sidecar says it."""
        return self._layers.told

    def look(self, patches: mx.array, grids: Sequence[Grid]) -> mx.array:
        """What the tower makes of pictures, see VisionTower; evaluated."""
        return self._tower.through(patches.astype(self._dtype), lambda tower, x: tower(x, grids))

    def __call__(
        self, prompts: Sequence[Encoded], pad: int, pictures: mx.array | None = None
    ) -> list[mx.array]:
        """Each prompt's features, (tokens − dropped, hidden), evaluated; all go through a layer in its turn.

        `pictures` (pads, hidden) go where `pad` stands.
        """
        turns = [rotation(one.positions, self._config.text) for one in prompts]

        def run(layer: Layer, states: list[mx.array]) -> list[mx.array]:
            return [layer(x, turn) for x, turn in zip(states, turns, strict=True)]

        states = self._layers.through([self._embedded(one, pad, pictures) for one in prompts], run)
        features = [self._norm(x)[one.dropped :] for x, one in zip(states, prompts, strict=True)]
        mx.eval(features)
        return features

    def _embedded(self, prompt: Encoded, pad: int, pictures: mx.array | None) -> mx.array:
        x = rows(self._table, prompt.ids).astype(self._dtype)
        if pictures is not None:
            x[mx.array(np.flatnonzero(np.array(prompt.ids) == pad))] = pictures.astype(self._dtype)
        return x


def parts(stored: Mapping[str, Stored]) -> tuple[list[Stored], list[Stored]]:
    """What the vision tower has of a folder's tensors, and what the layers have together."""
    tower = [one for name, one in stored.items() if name.startswith("visual.")]
    return tower, [one for name, one in stored.items() if name.startswith("model.layers.")]


def final_norm(weights: Weights, config: TextConfig) -> RMSNorm:
    """The norm behind the last layer."""
    return weights.norm("model.norm", config.hidden, config.eps)


def token_table(weights: Weights, config: TextConfig) -> mx.array:
    """The table of tokens, whole."""
    return weights.tensor(TABLE, (config.vocabulary, config.hidden))
