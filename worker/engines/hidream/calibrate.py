"""Measures from how many rows of input on it is faster to dequantise a weight and multiply than to multiply
by the quantised one.

The two round differently, so the choice is made once per chip, MLX version, weights and arithmetic, and kept:
a job then repeats to the byte.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import mlx.core as mx
import numpy as np

from worker.engines.hidream.checkpoint import Weights
from worker.engines.hidream.config import Config, TextConfig
from worker.engines.hidream.decoder import Layer
from worker.engines.hidream.rope import rotation
from worker.engines.hidream.shards import write_json

NEVER = 2**31  # rows that no input has
ROWS = (64, 256, 1024)  # tokens of a prompt … of a picture; what holds for the last holds for more
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured on one decoder layer, and the choice that follows."""

    dequantize_from: int  # see layers.Quantized
    seconds: Mapping[str, tuple[float, float]]  # by rows: quantised multiply, dequantise and multiply

    @property
    def said(self) -> str:
        """The choice, as a sidecar names it."""
        if self.dequantize_from == 0:
            return "dequantised"
        if self.dequantize_from == NEVER:
            return "quantised"
        return f"dequantised from {self.dequantize_from} rows"


def choose(cache: Path | None, folder: Path, config: Config, dtype: mx.Dtype, digest: str) -> tuple[int, str]:
    """A checkpoint's `dequantize_from`, and how a sidecar names it.

    Measured once and kept in `cache`; a file there that cannot be read is measured anew. Without a `cache`
    nothing is measured: weights are dequantised.
    """
    middle = f"model.language_model.layers.{config.text.num_hidden_layers // 2}."
    stored = Weights(folder, dtype).stored
    if not any(name.startswith(middle) and name.endswith(".scales") for name in stored):
        return 0, "dense"
    if cache is None:
        return 0, "dequantised"
    key = {
        "chip": str(mx.device_info()["device_name"]),
        "device": str(mx.default_device()),
        "mlx": version("mlx"),
        "arithmetic": str(dtype),
        "digest": digest,
    }
    path = cache / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
    kept = _kept(path)
    if kept is None:
        kept = measured(
            lambda dequantize_from: Layer(Weights(folder, dtype, dequantize_from), middle[:-1], config.text),
            config.text,
            dtype,
        )
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        write_json(partial, {**key, **asdict(kept)})
        partial.replace(path)
    return kept.dequantize_from, kept.said


def measured(layer: Callable[[int], Layer], config: TextConfig, dtype: mx.Dtype) -> Calibration:
    """Time one layer both ways; `layer` builds it with a `dequantize_from`."""
    ways = [_timed(layer(dequantize_from), config, dtype) for dequantize_from in (NEVER, 0)]
    seconds = dict(zip(map(str, ROWS), zip(*ways, strict=True), strict=True))
    found = NEVER
    for rows in reversed(ROWS):
        quantised, dequantised = seconds[str(rows)]
        if quantised < dequantised:
            break
        found = rows if rows > ROWS[0] else 0
    return Calibration(found, seconds)


def _timed(layer: Layer, config: TextConfig, dtype: mx.Dtype) -> list[float]:
    return [_seconds(layer, rows, config, dtype) for rows in ROWS]


def _seconds(layer: Layer, rows: int, config: TextConfig, dtype: mx.Dtype) -> float:
    x = mx.random.normal((rows, config.hidden_size), dtype, key=mx.random.key(0))
    turn = rotation(np.tile(np.arange(rows, dtype=np.int32), (3, 1)), config)
    mx.eval(x, layer(x, turn, None, None)[0])
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        mx.eval(layer(x, turn, None, None)[0])
        taken.append(time.perf_counter() - started)
    return median(taken)


def _kept(path: Path) -> Calibration | None:
    try:
        data = json.loads(path.read_bytes())
        seconds = {rows: (float(one), float(other)) for rows, (one, other) in data["seconds"].items()}
        return Calibration(int(data["dequantize_from"]), seconds)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
