"""Sizes to measure random weights of, by name."""

from __future__ import annotations

from pixelkiln.worker.engines.checkpoints.configs import AutoencoderConfig, Qwen3Config
from pixelkiln.worker.engines.z_image.config import Config, TransformerConfig

CONFIGS = {
    "release": Config(
        TransformerConfig(
            dim=3840,
            heads=30,
            layers=30,
            refiners=2,
            text=2560,
            channels=16,
            patch=2,
            axes=(32, 48, 48),
            lengths=(1536, 512, 512),
            theta=256.0,
            t_scale=1000.0,
            eps=1e-5,
        ),
        Qwen3Config(
            hidden_size=2560,
            intermediate_size=9728,
            num_hidden_layers=36,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=151936,
            rms_norm_eps=1e-6,
            rope_theta=1e6,
        ),
        AutoencoderConfig(
            channels=(128, 256, 512, 512), layers=2, groups=32, latents=16, quant=False, post_quant=False
        ),
        scaling=0.3611,
        shifting=0.1159,
        shift=3.0,
    ),
    "small": Config(
        TransformerConfig(
            dim=192,
            heads=3,
            layers=4,
            refiners=1,
            text=64,
            channels=16,
            patch=2,
            axes=(16, 24, 24),
            lengths=(1536, 512, 512),
            theta=256.0,
            t_scale=1000.0,
            eps=1e-5,
        ),
        Qwen3Config(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            vocab_size=512,
            rms_norm_eps=1e-6,
            rope_theta=1e6,
        ),
        AutoencoderConfig(
            channels=(32, 32, 64, 64), layers=1, groups=8, latents=16, quant=False, post_quant=False
        ),
        scaling=0.3611,
        shifting=0.1159,
        shift=3.0,
    ),
}
