"""The seam between the service and the models: what an engine is, and how one is loaded."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from pixelkiln.worker.engines.blas import use_openblas
from pixelkiln.worker.engines.engine import Engine, Estimate
from pixelkiln.worker.engines.families import family_in


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

    `budget` bounds what it may hold, in bytes; the rest as of Family. Raises CheckpointError. MLX is imported
    here, so the caller's thread must be the one that renders.
    """
    use_openblas()
    return family_in(folder).load(folder, budget, arithmetic, calibrations)


def estimate(folder: Path, arithmetic: str | None = None, calibrations: Path | None = None) -> Estimate:
    """What renders with a checkpoint folder need, told without loading it; arguments as of `load`."""
    use_openblas()
    return family_in(folder).estimate(folder, arithmetic, calibrations)
