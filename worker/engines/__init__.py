"""The seam between the service and the models: what an engine is, and how one is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pixelkiln.worker.engines.blas import use_openblas
from pixelkiln.worker.engines.engine import Engine, Estimate


def device() -> str:
    """What MLX computes on, in words."""
    use_openblas()
    import mlx.core as mx

    return f"{version('mlx')} on {mx.default_device()}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What MLX tells of its device, and of the memory it has now; bytes."""

    device: str  # the chip's or the GPU's own name
    architecture: str
    metal: bool  # whether it computes by Metal
    limit: int | None  # what Metal lets a process hold for the GPU; None without Metal
    active: int
    cached: int


def facts() -> Facts:
    """As they are now; imports MLX."""
    use_openblas()
    import mlx.core as mx

    told = mx.device_info()
    metal = mx.metal.is_available() and mx.default_device().type == mx.DeviceType.gpu
    return Facts(
        str(told.get("device_name", "")),
        str(told.get("architecture", "")),
        metal,
        int(told["max_recommended_working_set_size"]) if metal else None,
        mx.get_active_memory(),
        mx.get_cache_memory(),
    )


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
    from pixelkiln.worker.engines.hidream.engine import HiDreamEngine

    return HiDreamEngine.load(folder, budget, _dtype(arithmetic), calibrations=calibrations)


def estimate(folder: Path, arithmetic: str | None = None, calibrations: Path | None = None) -> Estimate:
    """What renders with a checkpoint folder need, told without loading it; arguments as of `load`."""
    use_openblas()
    from pixelkiln.worker.engines.hidream.estimate import Estimate as HiDreamEstimate

    return HiDreamEstimate(folder, _dtype(arithmetic), calibrations=calibrations)


def _dtype(arithmetic: str | None) -> Any:
    import mlx.core as mx

    return {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32, None: None}[arithmetic]
