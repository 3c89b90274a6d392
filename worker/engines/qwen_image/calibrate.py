"""Which block tells how quantised weights multiply faster, see checkpoints.calibrate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints import calibrate as shared
from pixelkiln.worker.engines.checkpoints.calibrate import Choice, Probe
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.qwen_image.config import TransformerConfig
from pixelkiln.worker.engines.qwen_image.transformer import IMAGE, Stream

BLOCK = "transformer_blocks.0"


def known(cache: Path | None, stored: Mapping[str, Stored], dtype: mx.Dtype, digest: str) -> Choice | None:
    """See checkpoints.calibrate.known."""
    return shared.known(cache, _quantised(stored), dtype, digest)


def choose(
    cache: Path | None,
    stored: Mapping[str, Stored],
    config: TransformerConfig,
    dtype: mx.Dtype,
    digest: str,
) -> Choice:
    """See checkpoints.calibrate.choose; the first block's image MLP is measured."""

    def probe(dequantize_from: int) -> Probe:
        weights = Weights(Path(), stored, dtype, dequantize_from)
        return run(Stream(weights, BLOCK, config, IMAGE, "img_mlp"), config, dtype)

    return shared.choose(cache, _quantised(stored), dtype, digest, probe)


def run(stream: Stream, config: TransformerConfig, dtype: mx.Dtype) -> Probe:
    """A block's image MLP, to be run on random rows."""

    def prepared(rows: int) -> Callable[[], mx.array]:
        x = mx.random.normal((rows, config.width), dtype, key=mx.random.key(0))
        mx.eval(x)
        return lambda: stream.mlp(x)

    return prepared


def _quantised(stored: Mapping[str, Stored]) -> bool:
    return any(name.startswith(f"{BLOCK}.") and name.endswith(".scales") for name in stored)
