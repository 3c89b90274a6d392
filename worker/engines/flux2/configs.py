"""Sizes to measure random weights of, by name."""

from __future__ import annotations

from pixelkiln.worker.engines.flux2.config import TransformerConfig

CONFIGS = {
    "release": TransformerConfig(
        heads=24,
        head_size=128,
        double_layers=5,
        single_layers=20,
        channels=128,
        features=7680,
        inner=9216,
        axes=(32, 32, 32, 32),
        theta=2000.0,
        eps=1e-6,
    ),
    "small": TransformerConfig(
        heads=2,
        head_size=32,
        double_layers=1,
        single_layers=2,
        channels=64,
        features=192,
        inner=192,
        axes=(8, 8, 8, 8),
        theta=2000.0,
        eps=1e-6,
    ),
}
