"""What every engine on MLX does alike once its model is at hand: steps, facts, and the memory they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Protocol

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.engine import Facts, NonFiniteError, Pixels, Step

ToPixels = Callable[[mx.array], Pixels]  # tokens of the target, as the sampler has them


class State(Protocol):
    """What a sampler yields after a step, both (tokens, values) float32."""

    @property
    def z(self) -> mx.array:
        """The state."""
        ...

    @property
    def clean(self) -> mx.array:
        """x̂0, what the model takes the picture for."""
        ...


def steps(
    states: Iterable[State],
    total: int,
    preview: ToPixels,
    decode: ToPixels,
    facts: Callable[[], Facts],
    left: Callable[[int], float | None] = lambda _: None,
) -> Iterator[Step]:
    """Each state as a Step, evaluated and timed; the last one with the picture and its facts.

    `left` tells Step.left by the step's index. Raises NonFiniteError at the step that made one.
    """
    started = time.perf_counter()
    for index, state in enumerate(states, 1):
        finite = mx.isfinite(state.z).all() & mx.isfinite(state.clean).all()
        mx.eval(state.z, state.clean, finite)
        if not finite.item():
            raise NonFiniteError(index)
        seconds = time.perf_counter() - started
        step = Step(index, total, seconds, preview=partial(preview, state.clean), left=left(index))
        if index == total:
            started = time.perf_counter()
            pixels = decode(state.z)
            seconds = time.perf_counter() - started
            step = replace(step, pixels=pixels, facts=facts(), decode_seconds=seconds)
        yield step
        started = time.perf_counter()


def facts_of(
    engine: str,
    manifest: Manifest,
    dtype: mx.Dtype,
    linears: str,
    *,
    steps: int,
    guidance: float,
    scheduler: str,
    told: Mapping[str, str] | None = None,
) -> Facts:
    """What ran: a checkpoint by its kiln.json, in `dtype`, on this machine."""
    return Facts(
        engine=engine,
        model=manifest.model,
        recipe=manifest.recipe,
        bits=manifest.bits,
        source=manifest.source,
        revision=manifest.revision,
        digest=manifest.digest,
        versions={name: version(name) for name in ("mlx", "tokenizers")},
        device=str(mx.device_info()["device_name"]),
        arithmetic=str(dtype).removeprefix("mlx.core."),
        linears=linears,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        told=told or {},
    )


class Measured:
    """The part of an Engine that tells MLX's peak."""

    def reset_peak(self) -> None:
        """See Engine.reset_peak."""
        mx.reset_peak_memory()

    def peak_bytes(self) -> int:
        """See Engine.peak_bytes."""
        return mx.get_peak_memory()
