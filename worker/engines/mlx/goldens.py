"""Recorded renders: a folder with `cases.json` and, per case, a file of what the reference saw and made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from PIL import Image

from pixelkiln.worker.engines.family import Case, GoldenError


def read_cases(golden: Path, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """All or some of a golden folder's cases. Raises GoldenError for a folder or a name that is not there."""
    path = golden / "cases.json"
    try:
        data = json.loads(path.read_bytes())
        listed = data["cases"] if isinstance(data, dict) else data  # some say what made them beside it
        cases = {case["name"]: case for case in listed}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise GoldenError(f"{path} cannot be read: {error}") from error
    for name in names or ():
        if name not in cases:
            raise GoldenError(f"{golden} has no case {name!r}: it has {', '.join(cases)}")
    return list(cases.values()) if names is None else [cases[name] for name in names]


def judged(name: str, errors: Mapping[str, float], bounds: Mapping[str, float]) -> Case:
    """A case whose errors were measured; a NaN is within no bound."""
    return Case(name, all(errors[one] <= bound for one, bound in bounds.items()), errors)


def read_record(path: Path) -> dict[str, mx.array]:
    """A case's arrays. Raises GoldenError."""
    try:
        record = mx.load(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise GoldenError(f"{path} cannot be read: {error}") from error
    assert isinstance(record, dict)
    return record


def read_picture(path: Path) -> Image.Image:
    """A case's reference, RGB. Raises GoldenError."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except OSError as error:
        raise GoldenError(f"{path} cannot be read: {error}") from error


def check_equal(key: str, ours: Any, record: Mapping[str, mx.array]) -> None:
    """Raise GoldenError where an array of whole numbers is not what was recorded as `key`."""
    recorded = np.array(record[key])
    if ours.shape != recorded.shape:
        raise GoldenError(f"{key} has shape {ours.shape}, recorded {recorded.shape}")
    if not np.array_equal(ours, recorded):
        at = np.argwhere(ours != recorded)[0].tolist()
        raise GoldenError(f"{key} differs from what was recorded, first at {at}")


def largest_error(ours: mx.array, recorded: mx.array) -> float:
    """The largest absolute difference; NaN where either has one."""
    if ours.shape != recorded.shape:
        raise GoldenError(f"a prediction has shape {ours.shape}, recorded {recorded.shape}")
    return float(np.abs(np.array(ours) - np.array(recorded)).max())


def worst(errors: Sequence[float]) -> float:
    """The largest, NaN where there is one: max() may lose it."""
    return float(np.max(errors))
