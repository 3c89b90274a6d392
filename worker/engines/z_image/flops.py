"""What a step costs in floating-point operations."""

from __future__ import annotations

from pixelkiln.worker.engines.z_image.config import TransformerConfig
from pixelkiln.worker.engines.z_image.positions import padded


def step_flops(config: TransformerConfig, text: int, patches: int) -> int:
    """Floating-point operations of one step, a product and a sum being two.

    With n image tokens and m text tokens, pads included: 2 · tokens · the weights of a block's matrices plus
    4 · tokens² · dim for its attention, over n in the refiner's blocks and n + m in the others; and the
    embedding and the final layer's matrices over n. The text's own side runs once a prompt.
    """
    n, both = padded(patches), padded(patches) + padded(text)
    weights = 4 * config.dim**2 + 3 * config.dim * config.inner

    def block(tokens: int) -> int:
        return 2 * tokens * weights + 4 * tokens**2 * config.dim

    ends = 2 * 2 * n * config.values * config.dim
    return config.refiners * block(n) + config.layers * block(both) + ends
