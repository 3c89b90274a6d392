"""Qwen2.5-VL's vision tower: pictures to tokens of the language model's width."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.pacing import Pace
from pixelkiln.worker.engines.mlx.qwen3 import swiglu
from pixelkiln.worker.engines.mlx.rotary import Halves, halves
from pixelkiln.worker.engines.qwen_image.activations import gelu
from pixelkiln.worker.engines.qwen_image.config import VisionConfig
from pixelkiln.worker.engines.qwen_image.packing import Grid

EPS, THETA = 1e-6, 10000.0  # of norms and rotation, in no config


class Block:
    """One layer; `cuts` are where the runs of tokens end that attend to each other."""

    def __init__(self, weights: Weights, name: str, config: VisionConfig) -> None:
        hidden, inner = config.hidden, config.inner
        self.heads = config.heads
        self.norm1 = weights.norm(f"{name}.norm1", hidden, EPS)
        self.norm2 = weights.norm(f"{name}.norm2", hidden, EPS)
        self.qkv = weights.linear(f"{name}.attn.qkv", hidden, 3 * hidden, bias=True)
        self.proj = weights.linear(f"{name}.attn.proj", hidden, hidden, bias=True)
        self.gate = weights.linear(f"{name}.mlp.gate_proj", hidden, inner, bias=True)
        self.up = weights.linear(f"{name}.mlp.up_proj", hidden, inner, bias=True)
        self.down = weights.linear(f"{name}.mlp.down_proj", inner, hidden, bias=True)

    def __call__(self, x: mx.array, cuts: Sequence[int], turn: Halves) -> mx.array:
        """(patches, hidden) to the same."""
        qkv = self.qkv(self.norm1(x)).reshape(len(x), 3, self.heads, -1).transpose(1, 2, 0, 3)
        q, k, v = turn(qkv[0]), turn(qkv[1]), qkv[2]
        split = (mx.split(one[None], cuts[:-1], axis=2) for one in (q, k, v))
        attend = partial(mx.fast.scaled_dot_product_attention, scale=q.shape[-1] ** -0.5)
        runs = [attend(*parts) for parts in zip(*split, strict=True)]
        x = x + self.proj(mx.concatenate(runs, axis=2)[0].swapaxes(0, 1).reshape(x.shape))
        n = self.norm2(x)
        return x + self.down(swiglu(self.gate(n), self.up(n)))


class VisionTower:
    """The tower; its weights lie beside the language model's."""

    def __init__(self, weights: Weights, config: VisionConfig) -> None:
        self.config = config
        kernel, wide = (3, config.frames, config.patch, config.patch), config.hidden * config.merge**2
        embed = weights.tensor("visual.patch_embed.proj.weight", (config.hidden, *kernel))
        self.embed = embed.reshape(config.hidden, -1)  # its kernels are its stride: a product
        self.blocks = [Block(weights, f"visual.blocks.{i}", config) for i in range(config.depth)]
        self.norm = weights.norm("visual.merger.ln_q", config.hidden, EPS)
        self.merge = weights.linear("visual.merger.mlp.0", wide, wide, bias=True)
        self.out = weights.linear("visual.merger.mlp.2", wide, config.out, bias=True)

    def __call__(self, patches: mx.array, grids: Sequence[Grid]) -> mx.array:
        """(patches, 3 · frames · patch²), each picture's merge × merge squares together, to (tokens, out).

        `grids` are rows and columns of each picture's tokens.
        """
        square, reach = self.config.merge**2, self.config.window // self.config.patch // self.config.merge
        order, windows = _windows(grids, reach)
        whole = np.cumsum([rows * columns for rows, columns in grids])
        back, order = np.argsort(order), (order[:, None] * square + np.arange(square)).reshape(-1)
        turn = self._rotation(grids, order)
        x = (patches @ self.embed.T)[mx.array(order)]
        pace = Pace()
        for i, block in enumerate(self.blocks):
            cuts = whole if i in self.config.full else windows
            x = block(x, [int(one) * square for one in cuts], turn)
            pace(x)
        merged = self.merge(self.norm(x).reshape(len(x) // square, -1))
        return self.out(gelu(merged))[mx.array(back)]

    def _rotation(self, grids: Sequence[Grid], order: NDArray[np.int64]) -> Halves:
        """A quarter of a head's values turns by the row, as many by the column, in `order` of patches."""
        quarter = self.config.hidden // self.config.heads // 4
        frequencies = THETA ** (-np.arange(quarter, dtype=np.float64) / quarter)
        merge, places = self.config.merge, []
        for rows, columns in grids:
            row, column = np.indices((rows * merge, columns * merge))
            for place in (row, column):
                split = place.reshape(rows, merge, columns, merge).swapaxes(1, 2)
                places.append(split.reshape(-1))
        row, column = np.concatenate(places[0::2])[order], np.concatenate(places[1::2])[order]
        return halves(np.concatenate([np.outer(row, frequencies), np.outer(column, frequencies)], axis=1))


def _windows(grids: Sequence[Grid], reach: int) -> tuple[NDArray[np.int64], list[int]]:
    """Tokens in order of windows of `reach` × `reach`, and where each window ends."""
    order: list[NDArray[np.int64]] = []
    ends: list[int] = []
    first = 0
    for rows, columns in grids:
        tokens = first + np.arange(rows * columns).reshape(rows, columns)
        for top in range(0, rows, reach):
            for left in range(0, columns, reach):
                window = tokens[top : top + reach, left : left + reach].reshape(-1)
                order.append(window)
                ends.append((ends[-1] if ends else 0) + len(window))
        first += rows * columns
    return np.concatenate(order), ends
