"""The denoiser: an image and a text stream that attend jointly, modulated by vectors that were made ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.elementwise import fused
from pixelkiln.worker.engines.mlx.layers import RMSNorm
from pixelkiln.worker.engines.mlx.pacing import Pace
from pixelkiln.worker.engines.mlx.rotary import Pairs
from pixelkiln.worker.engines.qwen_image.activations import gelu_tanh
from pixelkiln.worker.engines.qwen_image.config import TransformerConfig

EPS = 1e-6
RATIO = 4  # of an MLP's width to the stream's

Vectors = Sequence[mx.array]  # rows of shift, scale and gate of attention, then of the MLP: (6, width) each


@dataclass(frozen=True, slots=True)
class StepVectors:
    """What time does in one step. Of a pair of the image stream's the second is for references."""

    image: Sequence[Vectors]  # per block
    text: Sequence[Vectors]  # per block
    out: mx.array  # (2, width): scale, shift


@fused
def _shifted(x: mx.array, shift: mx.array, scale: mx.array) -> mx.array:
    return x * (1 + scale) + shift


@fused
def _shifted_each(
    x: mx.array, target: mx.array, shift: mx.array, scale: mx.array, shift0: mx.array, scale0: mx.array
) -> mx.array:
    return x * (1 + mx.where(target, scale, scale0)) + mx.where(target, shift, shift0)


@fused
def _added(x: mx.array, y: mx.array, gate: mx.array) -> mx.array:
    return x + gate * y


@fused
def _added_each(x: mx.array, y: mx.array, target: mx.array, gate: mx.array, gate0: mx.array) -> mx.array:
    return x + mx.where(target, gate, gate0) * y


def _normed(x: mx.array) -> mx.array:
    return mx.fast.layer_norm(x, None, None, EPS)


@dataclass(frozen=True, slots=True)
class Modulation:
    """A stream's vectors in a block: one set, or with `target` (tokens, 1) one for these, one for others."""

    vectors: Vectors
    target: mx.array | None

    def before(self, x: mx.array, at: int) -> mx.array:
        """x · (1 + scale) + shift of the normed stream; `at` 0 for attention, 3 for the MLP."""
        if self.target is None or len(self.vectors) == 1:
            (only,) = self.vectors[:1]
            return _shifted(_normed(x), only[at], only[at + 1])
        one, other = self.vectors
        return _shifted_each(_normed(x), self.target, one[at], one[at + 1], other[at], other[at + 1])

    def after(self, x: mx.array, y: mx.array, at: int) -> mx.array:
        """x + gate · y."""
        if self.target is None or len(self.vectors) == 1:
            return _added(x, y, self.vectors[0][at + 2])
        one, other = self.vectors
        return _added_each(x, y, self.target, one[at + 2], other[at + 2])


class Stream:
    """One stream's own matrices in one block."""

    def __init__(
        self, weights: Weights, block: str, config: TransformerConfig, attention: Sequence[str], mlp: str
    ) -> None:
        width, (q, k, v, out, norm_q, norm_k) = config.width, attention
        self.head_dim = config.head_dim
        self.q, self.k, self.v, self.out = (
            weights.linear(f"{block}.attn.{one}", width, width, bias=True) for one in (q, k, v, out)
        )
        self.norm_q = weights.norm(f"{block}.attn.{norm_q}", config.head_dim, EPS)
        self.norm_k = weights.norm(f"{block}.attn.{norm_k}", config.head_dim, EPS)
        self.wide = weights.linear(f"{block}.{mlp}.net.0.proj", width, RATIO * width, bias=True)
        self.narrow = weights.linear(f"{block}.{mlp}.net.2", RATIO * width, width, bias=True)

    def heads(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Queries, keys and values, each (1, heads, tokens, head_dim), not yet rotated."""
        return (
            self._split(self.q(x), self.norm_q),
            self._split(self.k(x), self.norm_k),
            self._split(self.v(x)),
        )

    def mlp(self, x: mx.array) -> mx.array:
        """(tokens, width) to the same."""
        return self.narrow(gelu_tanh(self.wide(x)))

    def _split(self, x: mx.array, norm: RMSNorm | None = None) -> mx.array:
        x = x.reshape(1, len(x), -1, self.head_dim)
        return (x if norm is None else norm(x)).swapaxes(1, 2)


IMAGE = ("to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k")
TEXT = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k")


class Block:
    """Joint attention, then an MLP for each stream."""

    def __init__(self, weights: Weights, name: str, config: TransformerConfig) -> None:
        self.image = Stream(weights, name, config, IMAGE, "img_mlp")
        self.text = Stream(weights, name, config, TEXT, "txt_mlp")
        self.scale = config.head_dim**-0.5

    def __call__(
        self, image: mx.array, text: mx.array, by: tuple[Modulation, Modulation], rotation: Pairs, pace: Pace
    ) -> tuple[mx.array, mx.array]:
        """(tokens, width) of each stream to the same; `rotation` is of the text's tokens, then the image's.

        Half a block is submitted at a time: its weights may be dequantised, and a GPU has a time limit.
        """
        on_image, on_text = by
        parts = zip(
            self.text.heads(on_text.before(text, 0)), self.image.heads(on_image.before(image, 0)), strict=True
        )
        q, k, v = (mx.concatenate(list(both), axis=2) for both in parts)
        out = mx.fast.scaled_dot_product_attention(rotation(q), rotation(k), v, scale=self.scale)
        out = out[0].swapaxes(0, 1).flatten(1)
        image = on_image.after(image, self.image.out(out[len(text) :]), 0)
        text = on_text.after(text, self.text.out(out[: len(text)]), 0)
        pace(image, text)
        image = on_image.after(image, self.image.mlp(on_image.before(image, 3)), 3)
        text = on_text.after(text, self.text.mlp(on_text.before(text, 3)), 3)
        pace(image, text)
        return image, text


class Transformer:
    """The denoiser without what turns time into vectors, see modulation."""

    def __init__(self, weights: Weights, config: TransformerConfig) -> None:
        width = config.width
        self.config = config
        self.dtype = weights.dtype
        self.image_in = weights.linear("img_in", config.channels, width, bias=True)
        self.text_norm = weights.norm("txt_norm", config.context, EPS)
        self.text_in = weights.linear("txt_in", config.context, width, bias=True)
        self.blocks = [Block(weights, f"transformer_blocks.{i}", config) for i in range(config.layers)]
        self.out = weights.linear("proj_out", width, config.channels, bias=True)

    def context(self, features: mx.array) -> mx.array:
        """A prompt's features as the text stream's first tokens, (tokens, width)."""
        return self.text_in(self.text_norm(features.astype(self.dtype)))

    def tokens(self, latents: mx.array) -> mx.array:
        """Packed latents as the image stream's first tokens, (tokens, width)."""
        return self.image_in(latents.astype(self.dtype))

    def predict(
        self,
        target: mx.array,
        references: mx.array | None,
        text: mx.array,
        rotation: Pairs,
        vectors: StepVectors,
        rows: int | None = None,
    ) -> mx.array:
        """The velocity at the target's tokens, or at the first `rows`, (tokens, 4 · channels) float32."""
        image, first = target, None
        if references is not None:
            image = mx.concatenate([target, references])
            first = mx.arange(len(image))[:, None] < len(target)
        pace = Pace()
        for i, block in enumerate(self.blocks):
            by = Modulation(vectors.image[i], first), Modulation(vectors.text[i], None)
            image, text = block(image, text, by, rotation, pace)
        scale, shift = vectors.out
        kept = _normed(image[: rows or len(target)])
        return self.out(_shifted(kept, shift, scale)).astype(mx.float32)
