"""The Qwen3-VL text decoder, split where HiDream-O1 lets it be split.

Prompt tokens attend causally and never see a generated token, so their keys and values are computed once
(`prefix`). Generated tokens attend to everything, so a step runs only them, without a mask (`step`). This is
exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.hidream.config import TextConfig
from pixelkiln.worker.engines.mlx.pacing import Pace
from pixelkiln.worker.engines.mlx.qwen3 import KeysValues, Layer
from pixelkiln.worker.engines.mlx.rotary import Halves

TURN = 512  # tokens of a prompt that run at once: fewer than a step's, so that none is wider than that


@dataclass(frozen=True, slots=True)
class Added:
    """Features to add to some of the prefix's hidden states after the first decoder layers (DeepStack)."""

    at: mx.array  # (n,) positions in the prefix
    features: tuple[mx.array, ...]  # one (n, hidden) per layer, from the first


class Decoder:
    """Token table, layers and final norm. Layers are evaluated as they are built, see pacing."""

    def __init__(self, weights: Weights, config: TextConfig, name: str = "model.language_model") -> None:
        self.embed_tokens = weights.embedding(f"{name}.embed_tokens", config.vocab_size, config.hidden_size)
        self.layers = [Layer(weights, f"{name}.layers.{i}", config) for i in range(config.num_hidden_layers)]
        self.norm = weights.norm(f"{name}.norm", config.hidden_size, config.rms_norm_eps)

    def prefix(self, x: mx.array, rotation: Halves, added: Added | None = None) -> list[KeysValues]:
        """Run the prompt's embeddings (tokens, hidden) causally; return each layer's keys and values.

        TURN after TURN, each over the keys and values of those before; at once where something is added:
        beside pictures a step is wider than any prompt.
        """
        cache: list[KeysValues] = []
        turn = TURN if added is None else len(x)
        for first in range(0, len(x), turn):
            last = first + turn
            cache = self._turn(x[first:last], rotation.rows(first, last), cache, added)
            mx.eval(cache)
        return cache

    def _turn(
        self, x: mx.array, rotation: Halves, past: Sequence[KeysValues], added: Added | None
    ) -> list[KeysValues]:
        cache: list[KeysValues] = []
        pace = Pace()
        for i, layer in enumerate(self.layers):
            x, kept = layer(x, rotation, past[i] if past else None, "causal")
            cache.append(kept)
            if added is not None and i < len(added.features):
                x = x.at[added.at].add(added.features[i].astype(x.dtype))
            if i + 1 < len(self.layers):  # nothing reads the last layer's output
                pace(x, *kept)
        return cache

    def step(self, x: mx.array, rotation: Halves, prefix: Sequence[KeysValues]) -> mx.array:
        """Run the generated tokens (tokens, hidden) over a prefix; return their normalised hidden states."""
        pace = Pace()
        for layer, past in zip(self.layers, prefix, strict=True):
            x, _ = layer(x, rotation, past, None)
            pace(x)
        return self.norm(x)
