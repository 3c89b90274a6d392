"""The autoencoder for single pictures: pixels to latents and back.

Its 3 × 3 × 3 convolutions look back in time; a lone picture has two frames of zeros before it, so that the
last slice of a kernel alone counts, and what resamples time is skipped. Norms see one place at a time, hence
all but the middle's attention goes through in strips of rows, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.convolution import Conv
from pixelkiln.worker.engines.qwen_image.activations import silu
from pixelkiln.worker.engines.qwen_image.config import VaeConfig

DOWN = (0, 1)  # rows and columns of zeros before and after what halves a map
EPS = 1e-12
CHUNK_BYTES = 256 * 2**20  # of the attention's scores that exist at once


class Norm:
    """x / ‖x‖₂ · √channels · gamma, which is an RMS norm."""

    def __init__(self, weights: Weights, name: str, channels: int, dimensions: int = 3) -> None:
        ones = (1,) * dimensions
        self.gamma = weights.tensor(f"{name}.gamma", (channels, *ones)).reshape(channels)

    def __call__(self, x: mx.array) -> mx.array:
        """(rows, columns, channels) to the same."""
        return mx.fast.rms_norm(x, self.gamma, EPS)

    def active(self, x: mx.array) -> mx.array:
        """With SiLU behind it."""
        return silu(self(x))


def _conv(weights: Weights, name: str, inputs: int, outputs: int, side: int = 3) -> Conv:
    """A causal convolution as a single picture sees it."""
    return weights.conv(name, inputs, outputs, side, frames=side)


class Residual:
    """Norm, SiLU and convolution, twice, beside a shortcut."""

    def __init__(self, weights: Weights, name: str, inputs: int, outputs: int) -> None:
        self.norm1 = Norm(weights, f"{name}.norm1", inputs)
        self.conv1 = _conv(weights, f"{name}.conv1", inputs, outputs)
        self.norm2 = Norm(weights, f"{name}.norm2", outputs)
        self.conv2 = _conv(weights, f"{name}.conv2", outputs, outputs)
        self.shortcut = (
            _conv(weights, f"{name}.conv_shortcut", inputs, outputs, 1) if inputs != outputs else None
        )

    def __call__(self, x: mx.array) -> mx.array:
        """(rows, columns, inputs) to (rows, columns, outputs), evaluated."""
        inner = self.conv1(x, before=self.norm1.active)
        mx.eval(inner)  # or a CPU unfolds for both convolutions at once

        def beside(first: int, last: int) -> mx.array:
            rows = x[first:last]
            return rows if self.shortcut is None else self.shortcut(rows)

        y = self.conv2(inner, before=self.norm2.active, after=beside)
        mx.eval(y)
        return y


class Attention:
    """One head over all places, some queries at a time."""

    def __init__(self, weights: Weights, name: str, channels: int) -> None:
        self.norm = Norm(weights, f"{name}.norm", channels, 2)
        self.to_qkv = weights.conv(f"{name}.to_qkv", channels, 3 * channels, side=1)
        self.proj = weights.conv(f"{name}.proj", channels, channels, side=1)

    def __call__(self, x: mx.array) -> mx.array:
        """(rows, columns, channels) to the same, evaluated."""
        rows, columns, channels = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(1, 1, rows * columns, 3 * channels)
        q, k, v = mx.split(qkv, 3, axis=-1)
        step = max(1, CHUNK_BYTES // (rows * columns * 4))
        parts = []
        for first in range(0, rows * columns, step):
            some = q[:, :, first : first + step]
            parts.append(mx.fast.scaled_dot_product_attention(some, k, v, scale=channels**-0.5))
            mx.eval(parts[-1])
        del q, k, v, qkv, some
        y = x + self.proj(mx.concatenate(parts, axis=2).reshape(x.shape))
        mx.eval(y)
        return y


class Middle:
    """Residual, attention, residual."""

    def __init__(self, weights: Weights, name: str, channels: int) -> None:
        self.first = Residual(weights, f"{name}.resnets.0", channels, channels)
        self.attention = Attention(weights, f"{name}.attentions.0", channels)
        self.last = Residual(weights, f"{name}.resnets.1", channels, channels)

    def __call__(self, x: mx.array) -> mx.array:
        """(rows, columns, channels) to the same, evaluated."""
        return self.last(self.attention(self.first(x)))


class Encoder:
    """Pixels to a latent's mean, of the larger map that also holds its spread."""

    def __init__(self, weights: Weights, config: VaeConfig) -> None:
        widths = [config.base * one for one in (1, *config.multiples)]
        self.first = _conv(weights, "encoder.conv_in", 3, widths[0])
        self.stages: list[Residual | Conv] = []
        for stage, (inputs, outputs) in enumerate(pairwise(widths)):
            for block in range(config.blocks):
                name = f"encoder.down_blocks.{len(self.stages)}"
                self.stages.append(Residual(weights, name, outputs if block else inputs, outputs))
            if stage < len(config.multiples) - 1:
                name = f"encoder.down_blocks.{len(self.stages)}.resample.1"
                self.stages.append(weights.conv(name, outputs, outputs, stride=2, padding=DOWN))
        self.middle = Middle(weights, "encoder.mid_block", widths[-1])
        self.norm = Norm(weights, "encoder.norm_out", widths[-1])
        both = 2 * config.channels
        self.last = _conv(weights, "encoder.conv_out", widths[-1], both)
        self.quantised = _conv(weights, "quant_conv", both, both, 1)

    def __call__(self, x: mx.array) -> mx.array:
        """(height, width, 3) to (height / 8, width / 8, 2 · channels): means, then spreads."""
        x = self.first(x)
        for stage in self.stages:
            x = stage(x)
            mx.eval(x)
        return self.quantised(self.last(self.middle(x), before=self.norm.active))


class Decoder:
    """Latents to pixels."""

    def __init__(self, weights: Weights, config: VaeConfig) -> None:
        widths = [config.base * one for one in (config.multiples[-1], *reversed(config.multiples))]
        self.quantised = _conv(weights, "post_quant_conv", config.channels, config.channels, 1)
        self.first = _conv(weights, "decoder.conv_in", config.channels, widths[0])
        self.middle = Middle(weights, "decoder.mid_block", widths[0])
        self.stages: list[tuple[list[Residual], Conv | None]] = []
        for stage, (inputs, outputs) in enumerate(pairwise(widths)):
            name = f"decoder.up_blocks.{stage}"
            entry = inputs // 2 if stage else inputs  # growing a map halves its channels
            blocks = [
                Residual(weights, f"{name}.resnets.{i}", outputs if i else entry, outputs)
                for i in range(config.blocks + 1)
            ]
            last = stage == len(config.multiples) - 1
            grow = f"{name}.upsamplers.0.resample.1"
            self.stages.append((blocks, None if last else weights.conv(grow, outputs, outputs // 2)))
        self.norm = Norm(weights, "decoder.norm_out", widths[-1])
        self.last = _conv(weights, "decoder.conv_out", widths[-1], 3)

    def __call__(self, x: mx.array) -> mx.array:
        """(rows, columns, channels) to (8 · rows, 8 · columns, 3)."""
        x = self.middle(self.first(self.quantised(x)))
        for blocks, grow in self.stages:
            for block in blocks:
                x = block(x)
            if grow is not None:
                x = grow(x, scale=2)
                mx.eval(x)
        return self.last(x, before=self.norm.active)


class Autoencoder:
    """Both, with the latents' spread brought to 1."""

    def __init__(self, weights: Weights, config: VaeConfig) -> None:
        self.encoder = Encoder(weights, config)
        self.decoder = Decoder(weights, config)
        self.mean = mx.array(config.mean, mx.float32)
        self.std = mx.array(config.std, mx.float32)
        self._dtype = weights.dtype
        weights.finish(ignore=unused(config))

    def encode(self, pixels: mx.array) -> mx.array:
        """(height, width, 3) in −1 … 1 to (channels, height / 8, width / 8) float32, evaluated."""
        both = self.encoder(pixels.astype(self._dtype)).astype(mx.float32)
        latents = ((both[..., : len(self.mean)] - self.mean) / self.std).transpose(2, 0, 1)
        mx.eval(latents)
        return latents

    def decode(self, latents: mx.array) -> mx.array:
        """(channels, rows, columns) float32 to (8 · rows, 8 · columns, 3) uint8, evaluated."""
        x = latents.transpose(1, 2, 0) * self.std + self.mean
        x = mx.clip(self.decoder(x.astype(self._dtype)).astype(mx.float32), -1, 1)
        levels = mx.round((x / 2 + 0.5) * 255).astype(mx.uint8)
        mx.eval(levels)
        return levels


def unused(config: VaeConfig) -> Iterator[str]:
    """Names of what resamples time."""
    for stage, timed in enumerate(config.timed):
        if timed:
            yield f"encoder.down_blocks.{(stage + 1) * (config.blocks + 1) - 1}.time_conv."
    for stage, timed in enumerate(reversed(config.timed)):
        if timed:
            yield f"decoder.up_blocks.{stage}.upsamplers.0.time_conv."
