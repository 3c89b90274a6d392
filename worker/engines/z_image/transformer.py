"""Z-Image's transformer: text and picture each through layers of their own, then both as one sequence.

Nothing is masked. The text's side, up to its refiner's end, depends neither on the step nor on the size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.pacing import Pace
from pixelkiln.worker.engines.mlx.qwen3 import swiglu
from pixelkiln.worker.engines.mlx.rotary import Pairs, angles, pairs
from pixelkiln.worker.engines.mlx.timesteps import FREQUENCIES, sinusoid
from pixelkiln.worker.engines.z_image.config import INNER, TransformerConfig
from pixelkiln.worker.engines.z_image.positions import Positions, padded

FINAL_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Modulation:
    """The weights of a block's four norms, each (dim,), with the step's scales and gates multiplied in."""

    attention_in: mx.array
    attention_out: mx.array
    feed_in: mx.array
    feed_out: mx.array


class Attention:
    """Every token looks at every token; RMS norms per head on queries and keys."""

    def __init__(self, weights: Weights, name: str, config: TransformerConfig) -> None:
        self.heads, self.size = config.heads, config.dim // config.heads
        self.to_qkv = weights.stacked([f"{name}.to_{one}" for one in "qkv"], config.dim, [config.dim] * 3)
        self.to_out = weights.linear(f"{name}.to_out.0", config.dim, config.dim)
        self.norm_q, self.norm_k = (
            weights.norm(f"{name}.norm_{one}", self.size, config.eps) for one in ("q", "k")
        )

    def __call__(self, x: mx.array, rotation: Pairs) -> mx.array:
        """(tokens, dim) to the same."""
        q, k, v = (one.reshape(len(x), self.heads, self.size) for one in self.to_qkv(x))
        queries, keys = (rotation(one.swapaxes(0, 1)[None]) for one in (self.norm_q(q), self.norm_k(k)))
        values = v.swapaxes(0, 1)[None]
        out = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=self.size**-0.5, mask=None)
        return self.to_out(out[0].swapaxes(0, 1).flatten(1))


class Block:
    """Attention and SwiGLU, each between two norms: a step scales the one and gates the other."""

    def __init__(
        self, weights: Weights, name: str, config: TransformerConfig, modulated: bool = True
    ) -> None:
        dim, self.eps = config.dim, config.eps
        self.attention = Attention(weights, f"{name}.attention", config)
        self.gate_up = weights.stacked(
            [f"{name}.feed_forward.w1", f"{name}.feed_forward.w3"], dim, [config.inner] * 2
        )
        self.down = weights.linear(f"{name}.feed_forward.w2", config.inner, dim)
        names = ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2")
        self.norms = Modulation(*(weights.tensor(f"{name}.{one}.weight", (dim,)) for one in names))
        self.adaln = (
            weights.linear(f"{name}.adaLN_modulation.0", config.time, 4 * dim, bias=True)
            if modulated
            else None
        )

    def modulations(self, times: mx.array) -> list[Modulation]:
        """For each of the embedded times, (steps, width)."""
        assert self.adaln is not None
        scale_attention, gate_attention, scale_feed, gate_feed = mx.split(
            self.adaln(times).astype(mx.float32), 4, axis=-1
        )
        own, dtype = self.norms, times.dtype
        made = (
            (own.attention_in * (1 + scale_attention)).astype(dtype),
            (own.attention_out * mx.tanh(gate_attention)).astype(dtype),
            (own.feed_in * (1 + scale_feed)).astype(dtype),
            (own.feed_out * mx.tanh(gate_feed)).astype(dtype),
        )
        return [Modulation(*(one[i] for one in made)) for i in range(len(times))]

    def __call__(
        self, x: mx.array, rotation: Pairs, pace: Pace, modulation: Modulation | None = None
    ) -> mx.array:
        """(tokens, dim) to the same, submitted by halves: the weights of each may be dequantised."""
        by = modulation or self.norms
        attended = self.attention(mx.fast.rms_norm(x, by.attention_in, self.eps), rotation)
        x = x + mx.fast.rms_norm(attended, by.attention_out, self.eps)
        pace(x)
        gate, up = self.gate_up(mx.fast.rms_norm(x, by.feed_in, self.eps))
        x = x + mx.fast.rms_norm(self.down(swiglu(gate, up)), by.feed_out, self.eps)
        pace(x)
        return x


@dataclass(frozen=True, slots=True)
class Times:
    """What the model makes of a schedule's times, ahead of all steps."""

    blocks: list[list[Modulation]]  # by block, the refiner's first, then by step
    final: mx.array  # (steps, dim): the weights of the last norm

    def arrays(self) -> list[mx.array]:
        """To be evaluated."""
        made = [
            array
            for block in self.blocks
            for one in block
            for array in (one.attention_in, one.attention_out, one.feed_in, one.feed_out)
        ]
        return [*made, self.final]


class Transformer:
    """The model. Blocks are evaluated as they run, see pacing."""

    def __init__(self, weights: Weights, config: TransformerConfig) -> None:
        self.config, self.dtype, dim = config, weights.dtype, config.dim
        kind = f"{config.patch}-1"
        self.x_embedder = weights.linear(f"all_x_embedder.{kind}", config.values, dim, bias=True)
        self.text_norm = weights.norm("cap_embedder.0", config.text, config.eps)
        self.text_embedder = weights.linear("cap_embedder.1", config.text, dim, bias=True)
        self.x_pad, self.text_pad = (weights.tensor(f"{one}_pad_token", (1, dim)) for one in ("x", "cap"))
        self.time_in = weights.linear("t_embedder.mlp.0", 2 * FREQUENCIES, INNER, bias=True)
        self.time_out = weights.linear("t_embedder.mlp.2", INNER, config.time, bias=True)
        refiners = range(config.refiners)
        self.text_refiner = [Block(weights, f"context_refiner.{i}", config, False) for i in refiners]
        self.refiner = [Block(weights, f"noise_refiner.{i}", config) for i in refiners]
        self.layers = [Block(weights, f"layers.{i}", config) for i in range(config.layers)]
        final = f"all_final_layer.{kind}"
        self.final_scale = weights.linear(f"{final}.adaLN_modulation.1", config.time, dim, bias=True)
        self.final = weights.linear(f"{final}.linear", dim, config.values, bias=True)

    def rotation(self, positions: Positions) -> Pairs:
        """Of tokens at positions."""
        return pairs(angles(positions, self.config.axes, self.config.theta))

    def times(self, times: Sequence[float]) -> Times:
        """Of times in 0 … 1, 0 being pure noise."""
        scaled = mx.array(list(times), mx.float32) * self.config.t_scale
        x = self.time_in(sinusoid(scaled).astype(self.dtype))
        embedded = self.time_out(x * mx.sigmoid(x))
        scale = self.final_scale(embedded * mx.sigmoid(embedded)).astype(mx.float32)
        blocks = [block.modulations(embedded) for block in (*self.refiner, *self.layers)]
        return Times(blocks, (1 + scale).astype(self.dtype))

    def text(self, features: mx.array, rotation: Pairs) -> mx.array:
        """(tokens, width) features to (tokens and pads, dim), refined."""
        x = self.text_embedder(self.text_norm(features.astype(self.dtype)))
        x, pace = _with_pads(x, self.text_pad), Pace()
        for block in self.text_refiner:
            x = block(x, rotation, pace)
        return x

    def __call__(
        self, patches: mx.array, text: mx.array, times: Times, i: int, image_rotation: Pairs, rotation: Pairs
    ) -> mx.array:
        """Minus the velocity of patches, (n, values) float32, at step i; `text` as `text()` gives it.

        The rotations are of the picture's tokens and pads, and of those and the text's behind them.
        """
        x = _with_pads(self.x_embedder(patches.astype(self.dtype)), self.x_pad)
        pace, turned = Pace(), image_rotation
        for number, block in enumerate((*self.refiner, *self.layers)):
            if number == len(self.refiner):
                x, turned = mx.concatenate([x, text]), rotation
            x = block(x, turned, pace, times.blocks[number][i])
        x = mx.fast.layer_norm(x[: len(patches)], times.final[i], None, FINAL_EPS)
        return self.final(x).astype(mx.float32)


def _with_pads(x: mx.array, pad: mx.array) -> mx.array:
    missing = padded(len(x)) - len(x)
    return mx.concatenate([x, mx.repeat(pad, missing, axis=0)]) if missing else x
