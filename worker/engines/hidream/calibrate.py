"""Which layer of HiDream-O1 tells how quantised weights multiply faster, see checkpoints.calibrate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints import calibrate as shared
from pixelkiln.worker.engines.checkpoints.calibrate import Choice, Probe
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.hidream.checkpoint import tensors
from pixelkiln.worker.engines.hidream.config import Config, TextConfig
from pixelkiln.worker.engines.hidream.rope import rotation
from pixelkiln.worker.engines.mlx.qwen3 import Layer


def known(cache: Path | None, folder: Path, config: Config, dtype: mx.Dtype, digest: str) -> Choice | None:
    """See checkpoints.calibrate.known."""
    return shared.known(cache, _quantised(tensors(folder), config), dtype, digest)


def choose(cache: Path | None, folder: Path, config: Config, dtype: mx.Dtype, digest: str) -> Choice:
    """See checkpoints.calibrate.choose; the decoder's middle layer is measured."""
    stored = tensors(folder)

    def probe(dequantize_from: int) -> Probe:
        weights = Weights(folder, stored, dtype, dequantize_from)
        return run(Layer(weights, _middle(config)[:-1], config.text), config.text, dtype)

    return shared.choose(cache, _quantised(stored, config), dtype, digest, probe)


def run(layer: Layer, config: TextConfig, dtype: mx.Dtype) -> Probe:
    """A decoder layer, to be run on random rows."""

    def prepared(rows: int) -> Callable[[], mx.array]:
        x = mx.random.normal((rows, config.hidden_size), dtype, key=mx.random.key(0))
        turn = rotation(np.tile(np.arange(rows, dtype=np.int32), (3, 1)), config)
        mx.eval(x)
        return lambda: layer(x, turn, None, None)[0]

    return prepared


def _quantised(stored: Mapping[str, Stored], config: Config) -> bool:
    middle = _middle(config)
    return any(name.startswith(middle) and name.endswith(".scales") for name in stored)


def _middle(config: Config) -> str:
    return f"model.language_model.layers.{config.text.num_hidden_layers // 2}."
