"""Sizes to measure random weights of, by name."""

from __future__ import annotations

from pixelkiln.worker.engines.hidream.config import TextConfig

CONFIGS = {
    "release": TextConfig(
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        rms_norm_eps=1e-6,
        rope_theta=5e6,
        mrope_section=(24, 20, 20),
    ),
    "small": TextConfig(
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=512,
        rms_norm_eps=1e-6,
        rope_theta=5e6,
        mrope_section=(4, 2, 2),
    ),
}
