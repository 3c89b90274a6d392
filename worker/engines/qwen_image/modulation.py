"""What time does to every block, made once for a schedule.

A third of the model's weights turn a step's one time into shifts, scales and gates. They are read from disk
block by block, used for all steps at once and not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.timesteps import FREQUENCIES, sinusoid
from pixelkiln.worker.engines.qwen_image.activations import silu
from pixelkiln.worker.engines.qwen_image.config import TransformerConfig
from pixelkiln.worker.engines.qwen_image.transformer import StepVectors

TRAIN_STEPS = 1000
VECTORS = 6  # of a block and stream

TIME = "time_text_embed.timestep_embedder"
OUT = "norm_out.linear"
Opened = Callable[[], Weights]  # the transformer's folder, opened anew


def is_modulation(name: str) -> bool:
    """Whether a tensor is read for a schedule, and not kept."""
    return name.startswith((f"{TIME}.", f"{OUT}.")) or ".img_mod.1." in name or ".txt_mod.1." in name


@dataclass(frozen=True, slots=True)
class Table:
    """Vectors for all times of a schedule, the last of them 0 where references are modulated so."""

    image: tuple[mx.array, ...]  # per block (times, 6, width)
    text: tuple[mx.array, ...]  # per block (times, 6, width)
    out: mx.array  # (times, 2, width)
    still: bool  # whether the last time is the references'

    def at(self, step: int) -> StepVectors:
        """Those of one step, from 0."""
        image = [(one[step], one[-1]) if self.still else (one[step],) for one in self.image]
        return StepVectors(image, [(one[step],) for one in self.text], self.out[step])

    @property
    def arrays(self) -> list[mx.array]:
        """All it holds."""
        return [*self.image, *self.text, self.out]


def table(opened: Opened, config: TransformerConfig, sigmas: Sequence[float]) -> Table:
    """The vectors at noise levels `sigmas`, evaluated. Raises CheckpointError."""
    width, still = config.width, config.zero_cond_t
    weights = opened()
    first = weights.linear(f"{TIME}.linear_1", 2 * FREQUENCIES, width, bias=True)
    second = weights.linear(f"{TIME}.linear_2", width, width, bias=True)
    times = mx.array([TRAIN_STEPS * one for one in (*sigmas, *([0.0] if still else []))], mx.float32)
    said = silu(second(silu(first(sinusoid(times).astype(weights.dtype)))))
    mx.eval(said)
    weights.finish(ignore=("",))
    made = [
        [
            _vectors(opened, f"transformer_blocks.{i}.{one}_mod.1", width, VECTORS, said)
            for one in ("img", "txt")
        ]
        for i in range(config.layers)
    ]
    out = _vectors(opened, OUT, width, 2, said)
    return Table(tuple(one for one, _ in made), tuple(one for _, one in made), out, still)


def _vectors(opened: Opened, name: str, width: int, count: int, said: mx.array) -> mx.array:
    weights = opened()
    vectors = weights.linear(name, width, count * width, bias=True)(said).reshape(len(said), count, width)
    mx.eval(vectors)
    weights.finish(ignore=("",))  # the rest is the blocks'
    return vectors


def check(weights: Weights, config: TransformerConfig) -> None:
    """Ask for every tensor that `table` will. Raises CheckpointError."""
    width = config.width
    weights.linear(f"{TIME}.linear_1", 2 * FREQUENCIES, width, bias=True)
    weights.linear(f"{TIME}.linear_2", width, width, bias=True)
    weights.linear(OUT, width, 2 * width, bias=True)
    for i in range(config.layers):
        for one in ("img", "txt"):
            weights.linear(f"transformer_blocks.{i}.{one}_mod.1", width, VECTORS * width, bias=True)
