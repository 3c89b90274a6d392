"""FLUX.2's transformer: text and picture side by side in double blocks, then joined in single ones.

Nothing masks and nothing has a bias. Text comes before the target, the target before its references.
"""

from __future__ import annotations

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.flux2.config import TransformerConfig
from pixelkiln.worker.engines.flux2.modulation import Step, Sublayer, Times
from pixelkiln.worker.engines.mlx.elementwise import fused
from pixelkiln.worker.engines.mlx.pacing import Pace
from pixelkiln.worker.engines.mlx.qwen3 import swiglu
from pixelkiln.worker.engines.mlx.rotary import Pairs


@fused
def _added(x: mx.array, gate: mx.array, change: mx.array) -> mx.array:
    return x + gate * change


def _attention(config: TransformerConfig, q: mx.array, k: mx.array, v: mx.array, turn: Pairs) -> mx.array:
    """Of all tokens to all, (tokens, heads, size) each, unrotated, to (tokens, width)."""
    q, k, v = (x.swapaxes(0, 1)[None] for x in (q, k, v))
    out = mx.fast.scaled_dot_product_attention(turn(q), turn(k), v, scale=config.head_size**-0.5)
    return out[0].swapaxes(0, 1).flatten(1)


class Stream:
    """One stream's weights in a double block, the text's or the picture's."""

    def __init__(
        self, weights: Weights, block: str, names: dict[str, str], config: TransformerConfig
    ) -> None:
        width, self.config = config.width, config
        attn, mlp = f"{block}.attn", f"{block}.{names['mlp']}"
        self.qkv = weights.stacked([f"{attn}.{names[one]}" for one in "qkv"], width, [width] * 3)
        self.q_norm = weights.norm(f"{attn}.{names['q_norm']}", config.head_size, config.eps)
        self.k_norm = weights.norm(f"{attn}.{names['k_norm']}", config.head_size, config.eps)
        self.out = weights.linear(f"{attn}.{names['out']}", width, width)
        self.mlp_in = weights.linear(f"{mlp}.linear_in", width, 2 * config.inner)
        self.mlp_out = weights.linear(f"{mlp}.linear_out", config.inner, width)

    def heads(self, x: mx.array, sublayer: Sublayer) -> tuple[mx.array, mx.array, mx.array]:
        """Queries, keys and values of (tokens, width), each (tokens, heads, size)."""
        q, k, v = (_split(one, self.config) for one in self.qkv(sublayer.norm(x, self.config.eps)))
        return self.q_norm(q), self.k_norm(k), v

    def attend(self, x: mx.array, attended: mx.array, sublayer: Sublayer) -> mx.array:
        """(tokens, width) with what its tokens attended to."""
        return _added(x, sublayer.gate, self.out(attended))

    def feed(self, x: mx.array, mlp: Sublayer) -> mx.array:
        """(tokens, width) with what the MLP makes of it."""
        gate, up = mx.split(self.mlp_in(mlp.norm(x, self.config.eps)), 2, axis=-1)
        return _added(x, mlp.gate, self.mlp_out(swiglu(gate, up)))


_PICTURE = {"q": "to_q", "k": "to_k", "v": "to_v", "q_norm": "norm_q", "k_norm": "norm_k"}
_PICTURE |= {"out": "to_out.0", "mlp": "ff"}
_TEXT = {"q": "add_q_proj", "k": "add_k_proj", "v": "add_v_proj"}
_TEXT |= {"q_norm": "norm_added_q", "k_norm": "norm_added_k", "out": "to_add_out", "mlp": "ff_context"}


class DoubleBlock:
    """Two streams that attend to each other."""

    def __init__(self, weights: Weights, name: str, config: TransformerConfig) -> None:
        self.config = config
        self.picture = Stream(weights, name, _PICTURE, config)
        self.text = Stream(weights, name, _TEXT, config)

    def __call__(
        self, picture: mx.array, text: mx.array, step: Step, turn: Pairs, pace: Pace
    ) -> tuple[mx.array, mx.array]:
        """(tokens, width) of both streams to the same, submitted by halves as a single block is."""
        before = self.text.heads(text, step.text[0])
        behind = self.picture.heads(picture, step.picture[0])
        q, k, v = (mx.concatenate(list(pair)) for pair in zip(before, behind, strict=True))
        attended = _attention(self.config, q, k, v, turn)
        count = len(text)
        text = self.text.attend(text, attended[:count], step.text[0])
        picture = self.picture.attend(picture, attended[count:], step.picture[0])
        pace(picture, text)
        picture, text = self.picture.feed(picture, step.picture[1]), self.text.feed(text, step.text[1])
        pace(picture, text)
        return picture, text


class SingleBlock:
    """Attention and MLP beside each other, over the joined streams."""

    def __init__(self, weights: Weights, name: str, config: TransformerConfig) -> None:
        width, self.config = config.width, config
        self.widths = [width, 2 * width, 3 * width, 3 * width + config.inner]  # where q, k, v, gate, up end
        self.into = weights.linear(f"{name}.attn.to_qkv_mlp_proj", width, 3 * width + 2 * config.inner)
        self.q_norm = weights.norm(f"{name}.attn.norm_q", config.head_size, config.eps)
        self.k_norm = weights.norm(f"{name}.attn.norm_k", config.head_size, config.eps)
        self.out = weights.linear(f"{name}.attn.to_out", width + config.inner, width)

    def __call__(self, x: mx.array, step: Step, turn: Pairs, pace: Pace) -> mx.array:
        """(tokens, width) to the same, submitted by halves: the weights of each may be dequantised."""
        q, k, v, gate, up = mx.split(self.into(step.single.norm(x, self.config.eps)), self.widths, axis=-1)
        q, k, v = (_split(one, self.config) for one in (q, k, v))
        attended = _attention(self.config, self.q_norm(q), self.k_norm(k), v, turn)
        inner = mx.concatenate([attended, swiglu(gate, up)], axis=-1)
        pace(inner)
        x = _added(x, step.single.gate, self.out(inner))
        pace(x)
        return x


class Transformer:
    """Blocks are evaluated as they are built, and run, one after another: see pacing."""

    def __init__(self, weights: Weights, config: TransformerConfig) -> None:
        self.config, self.dtype = config, weights.dtype
        self.tokens_in = weights.linear("x_embedder", config.channels, config.width)
        self.text_in = weights.linear("context_embedder", config.features, config.width)
        self.times = Times(weights, config)
        self.doubles = [
            DoubleBlock(weights, f"transformer_blocks.{i}", config) for i in range(config.double_layers)
        ]
        self.singles = [
            SingleBlock(weights, f"single_transformer_blocks.{i}", config)
            for i in range(config.single_layers)
        ]
        self.tokens_out = weights.linear("proj_out", config.width, config.channels)

    def embedded(self, tokens: mx.array) -> mx.array:
        """(tokens, channels) of latents to (tokens, width)."""
        return self.tokens_in(tokens.astype(self.dtype))

    def __call__(
        self, target: mx.array, references: mx.array | None, text: mx.array, step: Step, turn: Pairs
    ) -> mx.array:
        """The velocity at (tokens, channels) of latents, the same shape in float32.

        `references` and `text` are embedded, (tokens, width); `turn` is that of text, target and references.
        """
        picture, pace = self.embedded(target), Pace()
        if references is not None:
            picture = mx.concatenate([picture, references])
        for double in self.doubles:
            picture, text = double(picture, text, step, turn, pace)
        x = mx.concatenate([text, picture])
        for single in self.singles:
            x = single(x, step, turn, pace)
        made = x[len(text) : len(text) + len(target)]
        return self.tokens_out(step.out(made, self.config.eps)).astype(mx.float32)


def _split(x: mx.array, config: TransformerConfig) -> mx.array:
    return x.reshape(len(x), config.heads, config.head_size)
