"""What a step costs in floating-point operations."""

from __future__ import annotations

from pixelkiln.worker.engines.qwen_image.config import TransformerConfig
from pixelkiln.worker.engines.qwen_image.transformer import RATIO


def step_flops(config: TransformerConfig, text: int, image: int) -> int:
    """Floating-point operations of one branch's step, a product and a sum being two.

    2 · (text + image) · (4 + 2 · RATIO) · width² of the blocks' matrices, 4 · (text + image)² · width of
    attention, and what goes in and out; modulation is made ahead.
    """
    width, tokens = config.width, text + image
    block = 2 * tokens * (4 + 2 * RATIO) * width**2 + 4 * tokens**2 * width
    return config.layers * block + 4 * image * config.channels * width
