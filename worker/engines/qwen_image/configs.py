"""Sizes to measure random weights of, by name."""

from __future__ import annotations

from pixelkiln.worker.engines.qwen_image.config import TransformerConfig

CONFIGS = {
    "release": TransformerConfig(60, 24, 128, 64, 3584, (16, 56, 56), zero_cond_t=False),
    "small": TransformerConfig(2, 4, 16, 64, 64, (4, 6, 6), zero_cond_t=False),
}
