"""The seam between the service and the models: what an engine is, and how one is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from math import inf
from pathlib import Path

from pixelkiln.worker.engines.blas import use_openblas
from pixelkiln.worker.engines.checkpoints.digests import Signature, measured, signature
from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
from pixelkiln.worker.engines.engine import CheckpointError, Engine, Estimate, NonFiniteError
from pixelkiln.worker.engines.families import family_in
from pixelkiln.worker.engines.family import Bench, Case, Share, Size, Told


def device() -> str:
    """What MLX computes on, in words."""
    use_openblas()
    import mlx.core as mx

    return f"{version('mlx')} on {mx.default_device()}"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What MLX tells of its device, and of the memory it has now; bytes."""

    device: str  # the chip's or the GPU's own name
    architecture: str
    metal: bool  # whether it computes by Metal
    limit: int | None  # what Metal lets a process hold for the GPU; None without Metal
    active: int
    cached: int


def device_facts() -> DeviceFacts:
    """As they are now; imports MLX."""
    use_openblas()
    import mlx.core as mx

    told = mx.device_info()
    metal = mx.metal.is_available() and mx.default_device().type == mx.DeviceType.gpu
    return DeviceFacts(
        str(told.get("device_name", "")),
        str(told.get("architecture", "")),
        metal,
        int(told["max_recommended_working_set_size"]) if metal else None,
        mx.get_active_memory(),
        mx.get_cache_memory(),
    )


def held() -> tuple[int, int]:
    """Bytes that MLX holds, and that it has freed and keeps; any thread may ask."""
    import mlx.core as mx

    return mx.get_active_memory(), mx.get_cache_memory()


def limits(budget: int) -> AbstractContextManager[None]:
    """Within, MLX keeps to `budget` bytes, for all engines together. See mlx.limits."""
    use_openblas()
    from pixelkiln.worker.engines.mlx.limits import limits

    return limits(budget)


def leave_room(left: int) -> None:
    """Before a render beside which `left` bytes stay free. See mlx.limits."""
    from pixelkiln.worker.engines.mlx.limits import leave_room

    leave_room(left)


def give_back() -> None:
    """Give the buffers that closed engines have freed back to the system."""
    import mlx.core as mx

    mx.clear_cache()


def load(
    folder: Path,
    budget: int | None = None,
    arithmetic: str | None = None,
    calibrations: Path | None = None,
) -> Engine:
    """The engine for a checkpoint folder, its weights in memory.

    `budget` is what it may hold, in bytes; the rest as of Family. Raises CheckpointError. MLX is imported
    here, so the caller's thread must be the one that renders.
    """
    use_openblas()
    return family_in(folder).load(folder, budget, arithmetic, calibrations)


def weights_of(folder: Path) -> Signature:
    """What tells whether the weights in a folder are still those that were loaded. Raises CheckpointError."""
    return signature(folder, family_in(folder).weight_files(folder))


def digest(folder: Path, cache: Path | None) -> str:
    """The digest of the weights that `load` would load, whatever kiln.json says.

    It is read of the files; with `cache`, once, and again where one has changed. Raises CheckpointError.
    """
    use_openblas()
    return measured(folder, family_in(folder).weight_files(folder), cache)


def check_digest(folder: Path) -> str:
    """That digest, read now, if it is kiln.json's.

    Raises CheckpointError where it is another: the weights were changed or damaged since.
    """
    said, found = Manifest.read(folder).digest, digest(folder, None)
    if found != said:
        raise CheckpointError(
            f"{folder}: its weights have changed since {NAME} was written ({found}, expected {said}):"
            " pull or convert them again"
        )
    return found


def estimate(folder: Path, arithmetic: str | None = None, calibrations: Path | None = None) -> Estimate:
    """What renders with a checkpoint folder need, told without loading it; arguments as of `load`."""
    use_openblas()
    return family_in(folder).estimate(folder, arithmetic, calibrations)


def verify(
    folder: Path, golden: Path, names: Sequence[str] | None = None, model: str | None = None
) -> list[Case]:
    """See Family.verify; `model` says whose the weights are where there is no kiln.json.

    In full float32: MLX would round products to TF32 on M5 and on NVIDIA's GPUs. It reads the switch at the
    process's first product, so the process should do nothing else before.
    """
    os.environ["MLX_ENABLE_TF32"] = "0"
    use_openblas()
    return family_in(folder, model).verify(folder, golden, names)


def bench(
    folder: Path,
    sizes: Sequence[Size],
    steps: int,
    calibrations: Path | None,
    arithmetic: str | None = None,
    told: Told | None = None,
    shares: Sequence[Share] = (),
) -> Bench:
    """See Family.bench."""
    use_openblas()
    return family_in(folder).bench(folder, sizes, steps, calibrations, arithmetic, told, shares)


HALVES = ("bfloat16", "float16")
WORTH = 0.95  # of the usual arithmetic's time: what is faster by less is not worth another picture


@dataclass(frozen=True, slots=True)
class Halves:
    """The half-precision arithmetics on this chip."""

    seconds: dict[str, float | None]  # a step, by arithmetic; None: the model's numbers are too large for it
    suits: str

    def __str__(self) -> str:
        told = (
            f"{name} {'overflows' if taken is None else f'{taken:.4f} s/step'}"
            for name, taken in self.seconds.items()
        )
        return f"{', '.join(told)}: {self.suits} suits this chip"


def compare(
    folder: Path, size: Size, steps: int, calibrations: Path | None, told: Told | None = None
) -> Halves:
    """Time a checkpoint in each: bfloat16 is what models are made for, and emulated on M1 and M2.

    Raises CheckpointError.
    """
    seconds: dict[str, float | None] = {}
    for arithmetic in HALVES:
        try:
            seconds[arithmetic] = bench(folder, [size], steps, calibrations, arithmetic, told).rows[0].step
        except NonFiniteError:
            seconds[arithmetic] = None
    usual, other = (seconds[one] or inf for one in HALVES)
    return Halves(seconds, HALVES[other < WORTH * usual])
