"""Refusing, before anything starts, what would not fit into the memory this worker may use."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.errors import SpecError
from jobs.spec import RenderSpec
from worker.engines.engine import Engine
from worker.models import Installed

GIB = 2**30
SIDES = (2048, 1792, 1536, 1280, 1024, 768, 512, 384, 256, 128, 64)  # pixels, of squares offered instead


def refuse_weights(wanted: Installed, budget: int, served: Iterable[Installed]) -> None:
    """Raise SpecError where the weights alone do not fit into `budget` bytes, naming those that do."""
    if wanted.weight_bytes() <= budget:
        return
    others = [
        one.quantization for one in served if one.model == wanted.model and one.weight_bytes() <= budget
    ]
    raise SpecError(
        "quantization",
        f"the {wanted.quantization} weights of {wanted.model} are {wanted.weight_bytes() / GIB:.1f} GiB; this"
        f" worker may use {budget / GIB:.1f} GiB (KILN_MEMORY); {_offer(others) or 'none it has'} would fit",
    )


def refuse_size(engine: Engine, spec: RenderSpec, budget: int, served: Iterable[Installed]) -> None:
    """Raise SpecError where rendering `spec` would take more than `budget` bytes, naming what would fit."""
    needed = engine.bytes_needed(spec)
    if needed <= budget:
        return
    weights = {one.quantization: one.weight_bytes() for one in served if one.model == spec.model}
    own = weights.pop(spec.quantization, 0)
    sides = [side for side in SIDES if side < max(spec.width, spec.height)]
    fitting = [f"{side} x {side}" for side in sides if _fits(engine, spec, side, budget)]
    smaller = [name for name, size in weights.items() if needed - own + size <= budget]
    offers = [
        offer for offer in (_offer(fitting[:3]), _offer(smaller) and f"{_offer(smaller)} weights") if offer
    ]
    raise SpecError(
        "width, height",
        f"{spec.width} x {spec.height} needs {needed / GIB:.2f} GiB; this worker may use"
        f" {budget / GIB:.2f} GiB (KILN_MEMORY); {' and '.join(offers) or 'nothing it has'} would fit",
    )


def _fits(engine: Engine, spec: RenderSpec, side: int, budget: int) -> bool:
    return engine.bytes_needed(spec.model_copy(update={"width": side, "height": side})) <= budget


def _offer(names: list[str]) -> str:
    return ", ".join(names)
