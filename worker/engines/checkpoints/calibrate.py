"""Measures from how many rows of input on it is faster to dequantise a weight and multiply than to multiply
by the quantised one.

The two round differently, so the choice is made once per chip, build of MLX, weights and arithmetic, and
kept: a job then repeats to the byte.
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

from pixelkiln.worker.engines.checkpoints.files import write_json
from pixelkiln.worker.host import machine

NEVER = 2**31  # rows that no input has
ROWS = (64, 256, 1024)  # tokens of a prompt … of a picture; what holds for the last holds for more
REPEATS = 3

Probe = Callable[[int], Callable[[], mx.array]]  # one layer: rows to the call that runs it, unevaluated
Choice = tuple[int, str]  # `dequantize_from`, see layers.Quantized, and how a sidecar names it


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured on one layer, and the choice that follows."""

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


def known(cache: Path | None, quantised: bool, dtype: mx.Dtype, digest: str) -> Choice | None:
    """A checkpoint's `dequantize_from` and how a sidecar names it; None where it is still to be measured.

    Without a `cache` nothing is measured: weights are dequantised.
    """
    if not quantised:
        return 0, "dense"
    if cache is None:
        return 0, "dequantised"
    found = kept(cache, dtype, digest)
    return None if found is None else (found.dequantize_from, found.said)


def choose(
    cache: Path | None, quantised: bool, dtype: mx.Dtype, digest: str, probe: Callable[[int], Probe]
) -> Choice:
    """What is `known`, or measured now and kept in `cache`, as where a file there cannot be read."""
    choice = known(cache, quantised, dtype, digest)
    if choice is not None:
        return choice
    assert cache is not None
    found = measured(probe)
    cache.mkdir(parents=True, exist_ok=True)
    path = _path(cache, dtype, digest)
    partial = path.with_suffix(".partial")
    write_json(partial, {**_key(dtype, digest), **asdict(found)})
    partial.replace(path)
    return found.dequantize_from, found.said


def _key(dtype: mx.Dtype, digest: str) -> dict[str, str]:
    return {
        "chip": str(mx.device_info()["device_name"]),
        "device": str(mx.default_device()),
        "mlx": version("mlx"),
        **machine.build(),
        "arithmetic": str(dtype),
        "digest": digest,
    }


def _path(cache: Path, dtype: mx.Dtype, digest: str) -> Path:
    key = json.dumps(_key(dtype, digest)).encode()
    return cache / f"{hashlib.sha256(key).hexdigest()[:16]}.json"


def measured(probe: Callable[[int], Probe]) -> Calibration:
    """Time one layer both ways; `probe` builds it with a `dequantize_from`."""
    ways = [_timed(probe(dequantize_from)) for dequantize_from in (NEVER, 0)]
    seconds = dict(zip(map(str, ROWS), zip(*ways, strict=True), strict=True))
    found = NEVER
    for rows in reversed(ROWS):
        quantised, dequantised = seconds[str(rows)]
        if quantised < dequantised:
            break
        found = rows if rows > ROWS[0] else 0
    return Calibration(found, seconds)


def _timed(probe: Probe) -> list[float]:
    return [_seconds(probe(rows)) for rows in ROWS]


def _seconds(run: Callable[[], mx.array]) -> float:
    mx.eval(run())
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        mx.eval(run())
        taken.append(time.perf_counter() - started)
    return median(taken)


def kept(cache: Path, dtype: mx.Dtype, digest: str) -> Calibration | None:
    """What was measured of a checkpoint here, if it can be read."""
    try:
        data = json.loads(_path(cache, dtype, digest).read_bytes())
        seconds = {rows: (float(one), float(other)) for rows, (one, other) in data["seconds"].items()}
        return Calibration(int(data["dequantize_from"]), seconds)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
