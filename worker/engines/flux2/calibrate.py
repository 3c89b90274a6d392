"""Which block of FLUX.2 tells how quantised weights multiply faster, see checkpoints.calibrate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints import calibrate as shared
from pixelkiln.worker.engines.checkpoints.calibrate import Choice, Probe
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.flux2.checkpoint import TRANSFORMER, tensors
from pixelkiln.worker.engines.flux2.config import TransformerConfig
from pixelkiln.worker.engines.flux2.modulation import Affine, Step, Sublayer
from pixelkiln.worker.engines.flux2.positions import text_positions
from pixelkiln.worker.engines.flux2.transformer import SingleBlock
from pixelkiln.worker.engines.mlx.pacing import Pace
from pixelkiln.worker.engines.mlx.rotary import angles, pairs


def known(
    cache: Path | None, folder: Path, config: TransformerConfig, dtype: mx.Dtype, digest: str
) -> Choice | None:
    """See checkpoints.calibrate.known."""
    return shared.known(cache, _quantised(tensors(folder, TRANSFORMER), config), dtype, digest)


def choose(
    cache: Path | None, folder: Path, config: TransformerConfig, dtype: mx.Dtype, digest: str
) -> Choice:
    """See checkpoints.calibrate.choose; the middle one of the single blocks is measured."""
    stored = tensors(folder, TRANSFORMER)

    def probe(dequantize_from: int) -> Probe:
        weights = Weights(folder / TRANSFORMER, stored, dtype, dequantize_from)
        return run(SingleBlock(weights, _middle(config), config), config, dtype)

    return shared.choose(cache, _quantised(stored, config), dtype, digest, probe)


def run(block: SingleBlock, config: TransformerConfig, dtype: mx.Dtype) -> Probe:
    """A single block, to be run on random rows."""

    def prepared(rows: int) -> Callable[[], mx.array]:
        x = mx.random.normal((rows, config.width), dtype, key=mx.random.key(0))
        one = mx.ones(config.width, dtype)
        sublayer = Sublayer(Affine(one, one), one)
        step = Step((sublayer, sublayer), (sublayer, sublayer), sublayer, sublayer.norm)
        turn = pairs(angles(text_positions(rows), config.axes, config.theta))
        mx.eval(x, one)
        return lambda: block(x, step, turn, Pace())

    return prepared


def _quantised(stored: Mapping[str, Stored], config: TransformerConfig) -> bool:
    middle = f"{_middle(config)}."
    return any(name.startswith(middle) and name.endswith(".scales") for name in stored)


def _middle(config: TransformerConfig) -> str:
    return f"single_transformer_blocks.{config.single_layers // 2}"
