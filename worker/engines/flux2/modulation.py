"""What a step's time does to every block: scales, shifts and gates, the same for all of one kind.

They depend on the time alone, so all steps' are computed before the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.flux2.config import TIME_CHANNELS, TransformerConfig
from pixelkiln.worker.engines.mlx.timesteps import sinusoid


@dataclass(frozen=True, slots=True)
class Affine:
    """Of one sublayer at one step, each (width,)."""

    scale: mx.array  # what a normalised value is multiplied by, 1 included
    shift: mx.array

    def __call__(self, x: mx.array, eps: float) -> mx.array:
        """(tokens, width), normalised over each token, scaled and shifted; in x's dtype."""
        return mx.fast.layer_norm(x, self.scale, self.shift, eps)


@dataclass(frozen=True, slots=True)
class Sublayer:
    """What goes into a sublayer, and how much of what comes out."""

    norm: Affine
    gate: mx.array  # (width,)


@dataclass(frozen=True, slots=True)
class Step:
    """One step's modulation."""

    picture: tuple[Sublayer, Sublayer]  # of a double block's attention and MLP
    text: tuple[Sublayer, Sublayer]
    single: Sublayer
    out: Affine


class Times:
    """The time's embedding and the matrices that modulate by it."""

    def __init__(self, weights: Weights, config: TransformerConfig) -> None:
        width, embedder = config.width, "time_guidance_embed.timestep_embedder"
        self.dtype = weights.dtype
        self.first = weights.linear(f"{embedder}.linear_1", TIME_CHANNELS, width)
        self.second = weights.linear(f"{embedder}.linear_2", width, width)
        self.picture = weights.linear("double_stream_modulation_img.linear", width, 6 * width)
        self.text = weights.linear("double_stream_modulation_txt.linear", width, 6 * width)
        self.single = weights.linear("single_stream_modulation.linear", width, 3 * width)
        self.out = weights.linear("norm_out.linear", width, 2 * width)

    def __call__(self, timesteps: mx.array) -> list[Step]:
        """(n,) float32 timesteps in 0 … 1000 to n steps' modulation, evaluated but for its parting."""
        # bfloat16 would round 967.4 to 968 before the sinusoid.
        x = self.first(sinusoid(timesteps).astype(self.dtype))
        x = _silu(self.second(_silu(x)))
        made = [linear(x) for linear in (self.picture, self.text, self.single, self.out)]
        mx.eval(made)
        return [_step(*rows) for rows in zip(*made, strict=True)]


def _step(picture: mx.array, text: mx.array, single: mx.array, out: mx.array) -> Step:
    scale, shift = mx.split(out, 2)  # the other way round than in the blocks
    attention, mlp = mx.split(picture, 2)
    text_attention, text_mlp = mx.split(text, 2)
    return Step(
        (_sublayer(attention), _sublayer(mlp)),
        (_sublayer(text_attention), _sublayer(text_mlp)),
        _sublayer(single),
        Affine(1 + scale, shift),
    )


def _sublayer(values: mx.array) -> Sublayer:
    shift, scale, gate = mx.split(values, 3)
    return Sublayer(Affine(1 + scale, shift), gate)


def _silu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)
