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


def load(folder: Path, budget: int | None = None) -> Engine:
    """The engine for a checkpoint folder, its weights in memory. `budget` bounds what it may hold, in bytes.

    Raises CheckpointError. MLX is imported here, so the caller's thread must be the one that renders.
    """
    use_openblas()
    from worker.engines.hidream.engine import HiDreamEngine

    return HiDreamEngine.load(folder, budget)
