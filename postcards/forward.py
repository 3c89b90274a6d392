"""The engine's decoder and heads, run on a batch: many captions and pictures at once, in one forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.hidream.config import TextConfig
from pixelkiln.worker.engines.hidream.decoder import Decoder
from pixelkiln.worker.engines.hidream.heads import PixelsIn, PixelsOut, TimestepEmbedder
from pixelkiln.worker.engines.hidream.positions import Grid, patch_positions
from pixelkiln.worker.engines.hidream.rope import rotation as rotation_at
from pixelkiln.worker.engines.mlx.layers import Embedding, Linear, RMSNorm, Stacked, stack
from pixelkiln.worker.engines.mlx.qwen3 import Attention, KeysValues, Mask
from pixelkiln.worker.engines.mlx.rotary import Halves


@dataclass(frozen=True, slots=True)
class Given:
    """Stands in for the engine's reader of checkpoint files: hands out arrays that are there already."""

    parameters: Mapping[str, mx.array]
    dtype: mx.Dtype

    def tensor(self, name: str, shape: tuple[int, ...]) -> mx.array:
        """One tensor of exactly this shape, in `dtype`."""
        value = self.parameters[name]
        if value.shape != shape:
            raise ValueError(f"{name} is {value.shape}, expected {shape}")
        return value.astype(self.dtype)

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = False) -> Linear:
        """A linear layer."""
        weight = self.tensor(f"{name}.weight", (outputs, inputs))
        return Linear(weight, self.tensor(f"{name}.bias", (outputs,)) if bias else None)

    def stacked(self, names: Sequence[str], inputs: int, outputs: Sequence[int]) -> Stacked:
        """Linear layers of one input as one."""
        rows = zip(names, outputs, strict=True)
        return stack([self.tensor(f"{name}.weight", (count, inputs)) for name, count in rows])

    def embedding(self, name: str, rows: int, columns: int) -> Embedding:
        """A token table."""
        return Embedding(self.tensor(f"{name}.weight", (rows, columns)))

    def norm(self, name: str, size: int, eps: float) -> RMSNorm:
        """An RMS norm."""
        return RMSNorm(self.tensor(f"{name}.weight", (size,)), eps)


class BatchedAttention:
    """The engine's attention with a batch in front: (batch, tokens, hidden) to the same.

    Captions differ in length: `attended`, (batch, 1, 1, keys), hides their padding from generated tokens.
    """

    def __init__(self, attention: Attention, attended: mx.array) -> None:
        self.attention = attention
        self.attended = attended

    def __call__(
        self, x: mx.array, rotation: Halves, past: KeysValues | None, mask: Mask
    ) -> tuple[mx.array, KeysValues]:
        """See Attention."""
        own = self.attention
        q, k, v = own.qkv_proj(x)
        queries = rotation(own.q_norm(self._split(q, own.heads)))
        keys = rotation(own.k_norm(self._split(k, own.groups)))
        values = self._split(v, own.groups)
        if past is not None:
            keys = mx.concatenate([past[0], keys], axis=2)
            values = mx.concatenate([past[1], values], axis=2)
        attended = _causal(x.shape[1]) if past is None else self.attended
        out = _attend(queries * own.size**-0.5, keys, values, attended)
        return own.o_proj(out.swapaxes(1, 2).flatten(2)), (keys, values)

    def _split(self, y: mx.array, heads: int) -> mx.array:
        batch, tokens, _ = y.shape
        return y.reshape(batch, tokens, heads, self.attention.size).swapaxes(1, 2)


def _causal(tokens: int) -> mx.array:
    places = mx.arange(tokens)
    return places[:, None] >= places


def _attend(queries: mx.array, keys: mx.array, values: mx.array, attended: mx.array) -> mx.array:
    """Attention from plain operations, whose gradients every backend has; query heads share keys in turn."""
    batch, heads, tokens, size = queries.shape
    groups, count = keys.shape[1:3]
    scores = queries.reshape(batch, groups, -1, size) @ keys.swapaxes(2, 3)
    scores = scores.reshape(batch, heads, tokens, count)
    scores = mx.where(attended, scores, mx.finfo(scores.dtype).min)
    shares = mx.softmax(scores, axis=-1, precise=True)
    return (shares.reshape(batch, groups, -1, count) @ values).reshape(batch, heads, tokens, size)


@dataclass(frozen=True, slots=True)
class Places:
    """Rotations that one picture format needs."""

    text: Halves  # (captions' room + 1, half): also of a timestep's token behind any caption
    patches: Halves  # (patches, half)

    @classmethod
    def of(cls, room: int, grid: Grid, config: TextConfig) -> Places:
        """For captions of up to `room` tokens and pictures of `grid` patches."""
        line = np.tile(np.arange(room + 1, dtype=np.int32), (3, 1))
        return cls(rotation_at(line, config), rotation_at(patch_positions(grid), config))

    def caption(self) -> Halves:
        """Of padded captions."""
        return Halves(self.text.cos[:-1], self.text.sin[:-1])

    def generated(self, lengths: mx.array) -> Halves:
        """Of each caption's timestep token and the patches, (batch, 1, 1 + patches, half)."""

        def joined(text: mx.array, patches: mx.array) -> mx.array:
            rows = mx.broadcast_to(patches, (len(lengths), *patches.shape))
            return mx.concatenate([text[lengths][:, None], rows], axis=1)[:, None]

        cosines = joined(self.text.cos, self.patches.cos)
        return Halves(cosines, joined(self.text.sin, self.patches.sin))


def predict(
    given: Given,
    config: TextConfig,
    places: Places,
    ids: mx.array,
    lengths: mx.array,
    timesteps: mx.array,
    z: mx.array,
) -> mx.array:
    """Clean patches (batch, patches, 3072) float32, as the engine predicts them for each row alone.

    `ids` (batch, room) are captions up to and including boi, padded behind to a common length; `lengths`
    (batch,) are the true ones; `timesteps` (batch,) run to 1000; `z` is (batch, patches, 3072).
    """
    room, patches = ids.shape[1], z.shape[1]
    keys = mx.arange(room + 1 + patches)
    attended = ((keys < lengths[:, None]) | (keys >= room))[:, None, None]
    decoder = Decoder(given, config)  # type: ignore[arg-type]  # Given reads like Weights
    for layer in decoder.layers:
        layer.attention = BatchedAttention(layer.attention, attended)  # type: ignore[assignment]
    # Layer by layer, since Decoder's own loop evaluates as it goes, which cannot be differentiated.
    x, past = decoder.embed_tokens(ids), []
    for layer in decoder.layers:
        x, kept = layer(x, places.caption(), None, "causal")
        past.append(kept)
    time = TimestepEmbedder(given, config.hidden_size)(timesteps)  # type: ignore[arg-type]
    pixels = PixelsIn(given, config.hidden_size)(z)  # type: ignore[arg-type]
    x, rotation = mx.concatenate([time[:, None], pixels], axis=1), places.generated(lengths)
    for layer, before in zip(decoder.layers, past, strict=True):
        x, _ = layer(x, rotation, before, None)
    return PixelsOut(given, config.hidden_size)(decoder.norm(x)[:, 1:])  # type: ignore[arg-type]
