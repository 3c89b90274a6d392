"""What a prompt becomes for the transformer: three depths of Qwen3 beside each other, pads included."""

from __future__ import annotations

import mlx.core as mx

from pixelkiln.worker.engines.flux2.tokens import LENGTH, Tokens
from pixelkiln.worker.engines.mlx.qwen3 import TextEncoder

DEPTHS = (9, 18, 27)  # layers behind which a state is taken; no more are run, nor kept
LAYERS = DEPTHS[-1]


def features(encoder: TextEncoder, tokens: Tokens) -> mx.array:
    """(LENGTH, 3 · hidden), evaluated. Pads see the prompt, nothing sees pads."""
    made = mx.concatenate(encoder(tokens.ids, DEPTHS, LENGTH - tokens.real), axis=-1)
    mx.eval(made)
    return made
