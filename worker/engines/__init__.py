"""The seam between the service and the models: what an engine is, and how one is loaded."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from worker.engines.blas import use_openblas
from worker.engines.engine import Engine


def device() -> str:
    """What MLX computes on, in words."""
    use_openblas()
    import mlx.core as mx

    return f"{version('mlx')} on {mx.default_device()}"


def load(
    folder: Path,
    budget: int | None = None,
    arithmetic: str | None = None,
    calibrations: Path | None = None,
) -> Engine:
    """The engine for a checkpoint folder, its weights in memory.

    `budget` bounds what it may hold, in bytes. `arithmetic` is bfloat16, float16 or float32, by default what
    suits the device. `calibrations` is a folder that keeps what was measured of this machine. Raises
    CheckpointError. MLX is imported here, so the caller's thread must be the one that renders.
    """
    use_openblas()
    import mlx.core as mx

    from worker.engines.hidream.engine import HiDreamEngine

    dtypes = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32, None: None}
    return HiDreamEngine.load(folder, budget, dtypes[arithmetic], calibrations=calibrations)
