"""Which layer of Z-Image tells how quantised weights multiply faster, see checkpoints.calibrate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints import calibrate as shared
from pixelkiln.worker.engines.checkpoints.calibrate import Choice, Probe
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.mlx.pacing import Pace
from pixelkiln.worker.engines.mlx.rotary import angles, pairs
from pixelkiln.worker.engines.z_image.checkpoint import tensors
from pixelkiln.worker.engines.z_image.config import TRANSFORMER, TransformerConfig
from pixelkiln.worker.engines.z_image.transformer import Block


def known(
    cache: Path | None, folder: Path, config: TransformerConfig, dtype: mx.Dtype, digest: str
) -> Choice | None:
    """See checkpoints.calibrate.known."""
    return shared.known(cache, _quantised(tensors(folder, TRANSFORMER), config), dtype, digest)


def choose(
    cache: Path | None, folder: Path, config: TransformerConfig, dtype: mx.Dtype, digest: str
) -> Choice:
    """See checkpoints.calibrate.choose; the middle block is measured."""
    stored = tensors(folder, TRANSFORMER)

    def probe(dequantize_from: int) -> Probe:
        weights = Weights(folder / TRANSFORMER, stored, dtype, dequantize_from)
        return run(Block(weights, _middle(config)[:-1], config), config, dtype)

    return shared.choose(cache, _quantised(stored, config), dtype, digest, probe)


def run(block: Block, config: TransformerConfig, dtype: mx.Dtype) -> Probe:
    """A block, to be run on random rows."""

    def prepared(rows: int) -> Callable[[], mx.array]:
        x = mx.random.normal((rows, config.dim), dtype, key=mx.random.key(0))
        places = np.repeat(np.arange(rows, dtype=np.int32)[:, None], 3, axis=1)
        turn = pairs(angles(places, config.axes, config.theta))
        mx.eval(x)
        return lambda: block(x, turn, Pace())

    return prepared


def _quantised(stored: Mapping[str, Stored], config: TransformerConfig) -> bool:
    middle = _middle(config)
    return any(name.startswith(middle) and name.endswith(".scales") for name in stored)


def _middle(config: TransformerConfig) -> str:
    return f"layers.{config.layers // 2}."
