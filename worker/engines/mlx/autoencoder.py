"""The KL autoencoder that FLUX and its relatives have: latents to pictures, and pictures to latents.

Group norms see the whole map, so it is never cut into tiles. What is held instead of a whole picture's worth
of intermediates: convolutions, with the norm and activation before them and the addition behind, run in
strips of rows, and the middle's attention in chunks of queries. Both are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.checkpoints.configs import AutoencoderConfig
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.convolution import Conv, Elementwise, in_strips
from pixelkiln.worker.engines.mlx.elementwise import fused

PREVIEW = 32  # latents along the longer side of what is decoded for a preview: 256 pixels
EPS = 1e-6
CHUNK_BYTES = 256 * 2**20  # of scores of the middle's attention
NORM_BYTES = 64 * 2**20  # of float32 rows whose statistics are taken at once


class GroupNorm:
    """Normalises a map by mean and variance of groups of its channels, then SiLU where it is `active`."""

    def __init__(self, weights: Weights, name: str, channels: int, groups: int, active: bool = True) -> None:
        self.weight = weights.tensor(f"{name}.weight", (channels,))
        self.bias = weights.tensor(f"{name}.bias", (channels,))
        self.groups, self.active = groups, active

    def of(self, x: mx.array) -> Elementwise:
        """What normalises rows of x, (rows, columns, channels), by the statistics of all of it."""
        mean = self._mean(x, None)
        deviation = mx.rsqrt(self._mean(x, mean) + EPS)
        scale = self.weight.astype(mx.float32) * deviation
        shift = self.bias.astype(mx.float32) - mean * scale
        mx.eval(scale, shift)
        function = _activated if self.active else _affine
        return lambda rows: function(rows, scale, shift)

    def _mean(self, x: mx.array, centre: mx.array | None) -> mx.array:
        """(channels,) float32: each group's mean, or its mean square around `centre`."""
        rows, columns, channels = x.shape
        step = max(1, NORM_BYTES // (columns * channels * 4))
        total = mx.zeros((channels,), mx.float32)
        for first in range(0, rows, step):
            values = x[first : first + step].astype(mx.float32)
            if centre is not None:
                values = mx.square(values - centre)
            total = total + values.mean(axis=1).sum(axis=0)
            del values
            mx.eval(total)
        means = (total / rows).reshape(self.groups, -1).mean(axis=1, keepdims=True)
        return mx.broadcast_to(means, (self.groups, channels // self.groups)).flatten()


@fused
def _affine(x: mx.array, scale: mx.array, shift: mx.array) -> mx.array:
    return (x.astype(mx.float32) * scale + shift).astype(x.dtype)


@fused
def _activated(x: mx.array, scale: mx.array, shift: mx.array) -> mx.array:
    y = x.astype(mx.float32) * scale + shift
    return (y * mx.sigmoid(y)).astype(x.dtype)


class Resnet:
    """Two convolutions behind norms, added to their input. What it gives is evaluated."""

    def __init__(self, weights: Weights, name: str, inputs: int, outputs: int, groups: int) -> None:
        self.norm1 = GroupNorm(weights, f"{name}.norm1", inputs, groups)
        self.conv1 = weights.conv(f"{name}.conv1", inputs, outputs)
        self.norm2 = GroupNorm(weights, f"{name}.norm2", outputs, groups)
        self.conv2 = weights.conv(f"{name}.conv2", outputs, outputs)
        shorter = inputs != outputs
        self.shortcut = weights.conv(f"{name}.conv_shortcut", inputs, outputs, side=1) if shorter else None

    def __call__(self, x: mx.array) -> mx.array:
        """(rows, columns, inputs) to (rows, columns, outputs)."""

        def beside(first: int, last: int) -> mx.array:
            rows = x[first:last]
            return rows if self.shortcut is None else self.shortcut(rows)

        h = self.conv1(x, before=self.norm1.of(x))
        mx.eval(h)
        y = self.conv2(h, before=self.norm2.of(h), after=beside)
        mx.eval(y)
        return y


class Attention:
    """One head over all places of a map, in chunks of queries, added to its input."""

    def __init__(self, weights: Weights, name: str, channels: int, groups: int) -> None:
        self.norm = GroupNorm(weights, f"{name}.group_norm", channels, groups, active=False)
        self.to_q, self.to_k, self.to_v, self.to_out = (
            weights.linear(f"{name}.{one}", channels, channels, bias=True)
            for one in ("to_q", "to_k", "to_v", "to_out.0")
        )

    def __call__(self, x: mx.array) -> mx.array:
        """(rows, columns, channels) to the same, evaluated."""
        flat = x.flatten(0, 1)
        places, channels = flat.shape
        y = self.norm.of(x)(flat)
        q, k, v = (linear(y)[None, None] for linear in (self.to_q, self.to_k, self.to_v))
        mx.eval(q, k, v)
        del y

        def chunk(first: int, last: int) -> mx.array:
            seen = mx.fast.scaled_dot_product_attention(
                q[:, :, first:last], k, v, scale=channels**-0.5, mask=None
            )
            return flat[first:last] + self.to_out(seen[0, 0])

        y = in_strips(chunk, places, max(1, CHUNK_BYTES // (2 * places * x.itemsize)))
        mx.eval(y)
        return y.reshape(x.shape)


class Middle:
    """What stands between the stages and the latents, in encoder and decoder."""

    def __init__(self, weights: Weights, name: str, channels: int, groups: int) -> None:
        self.first, self.last = (
            Resnet(weights, f"{name}.resnets.{i}", channels, channels, groups) for i in (0, 1)
        )
        self.attention = Attention(weights, f"{name}.attentions.0", channels, groups)

    def __call__(self, x: mx.array) -> mx.array:
        """(rows, columns, channels) to the same, evaluated."""
        return self.last(self.attention(self.first(x)))


def _resnets(
    weights: Weights, name: str, inputs: int, outputs: int, count: int, groups: int
) -> Sequence[Resnet]:
    return [
        Resnet(weights, f"{name}.resnets.{i}", outputs if i else inputs, outputs, groups)
        for i in range(count)
    ]


class Decoder:
    """Latents to a picture. `prefix` goes before the names of the tensors."""

    def __init__(self, weights: Weights, config: AutoencoderConfig, prefix: str = "") -> None:
        name, groups, wide = f"{prefix}decoder", config.groups, config.channels[::-1]
        self.post_quant = (
            weights.conv(f"{prefix}post_quant_conv", config.latents, config.latents, side=1)
            if config.post_quant
            else None
        )
        self.conv_in = weights.conv(f"{name}.conv_in", config.latents, wide[0])
        self.middle = Middle(weights, f"{name}.mid_block", wide[0], groups)
        self.stages: list[tuple[Sequence[Resnet], Conv | None]] = []
        for i, (inputs, outputs) in enumerate(zip(wide[:1] + wide, wide, strict=False)):
            block = f"{name}.up_blocks.{i}"
            resnets = _resnets(weights, block, inputs, outputs, config.layers + 1, groups)
            last = i + 1 == len(wide)
            up = None if last else weights.conv(f"{block}.upsamplers.0.conv", outputs, outputs)
            self.stages.append((resnets, up))
        self.norm_out = GroupNorm(weights, f"{name}.conv_norm_out", wide[-1], groups)
        self.conv_out = weights.conv(f"{name}.conv_out", wide[-1], 3)
        self.dtype = weights.dtype

    def __call__(self, z: mx.array) -> mx.array:
        """(rows, columns, latents) to a picture, (height, width, 3) float32 around −1 … 1, evaluated."""
        x = z.astype(self.dtype)
        x = self.conv_in(x if self.post_quant is None else self.post_quant(x))
        x = self.middle(x)
        for resnets, up in self.stages:
            for resnet in resnets:
                x = resnet(x)
            if up is not None:
                x = up(x, scale=2)
                mx.eval(x)
        y = self.conv_out(x, before=self.norm_out.of(x)).astype(mx.float32)
        mx.eval(y)
        return y


class Encoder:
    """A picture to the mean of its latents' distribution. `prefix` as of Decoder."""

    def __init__(self, weights: Weights, config: AutoencoderConfig, prefix: str = "") -> None:
        name, groups, wide = f"{prefix}encoder", config.groups, config.channels
        moments = 2 * config.latents
        self.conv_in = weights.conv(f"{name}.conv_in", 3, wide[0])
        self.stages: list[tuple[Sequence[Resnet], Conv | None]] = []
        for i, (inputs, outputs) in enumerate(zip(wide[:1] + wide, wide, strict=False)):
            block = f"{name}.down_blocks.{i}"
            resnets = _resnets(weights, block, inputs, outputs, config.layers, groups)
            down = None
            if i + 1 < len(wide):
                down = weights.conv(
                    f"{block}.downsamplers.0.conv", outputs, outputs, stride=2, padding=(0, 1)
                )
            self.stages.append((resnets, down))
        self.middle = Middle(weights, f"{name}.mid_block", wide[-1], groups)
        self.norm_out = GroupNorm(weights, f"{name}.conv_norm_out", wide[-1], groups)
        self.conv_out = weights.conv(f"{name}.conv_out", wide[-1], moments)
        self.quant = weights.conv(f"{prefix}quant_conv", moments, moments, side=1) if config.quant else None
        self.dtype, self.latents = weights.dtype, config.latents

    def __call__(self, picture: mx.array) -> mx.array:
        """(height, width, 3) in −1 … 1 to (rows, columns, latents) float32, evaluated."""
        x = self.conv_in(picture.astype(self.dtype))
        for resnets, down in self.stages:
            for resnet in resnets:
                x = resnet(x)
            if down is not None:
                x = down(x)
                mx.eval(x)
        x = self.middle(x)
        x = self.conv_out(x, before=self.norm_out.of(x))
        if self.quant is not None:
            x = self.quant(x)
        mean = x[..., : self.latents].astype(mx.float32)
        mx.eval(mean)
        return mean


def to_pixels(decoded: mx.array) -> NDArray[np.uint8]:
    """A picture around −1 … 1, (height, width, 3), as RGB, halves to even."""
    scaled = mx.clip(decoded.astype(mx.float32) / 2 + 0.5, 0, 1) * 255
    return np.array(mx.round(scaled).astype(mx.uint8))


def from_pixels(pixels: NDArray[np.uint8]) -> mx.array:
    """RGB as a picture in −1 … 1, float32."""
    return 2 * mx.array(pixels).astype(mx.float32) / 255 - 1


def shrunk(latents: mx.array, most: int = PREVIEW) -> mx.array:
    """(rows, columns, channels) averaged over squares until neither side is longer than `most`."""
    rows, columns, channels = latents.shape
    square = -(-max(rows, columns) // most)
    more = [(0, -side % square) for side in (rows, columns)]
    whole = mx.pad(latents, [*more, (0, 0)], mode="edge")
    split = whole.reshape(whole.shape[0] // square, square, whole.shape[1] // square, square, channels)
    return split.mean(axis=(1, 3))
