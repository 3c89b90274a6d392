"""How long steps take here, and what the chip's matrix multiplication allows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import mlx.core as mx

from pixelkiln.worker.engines.engine import NonFiniteError
from pixelkiln.worker.engines.family import Bench, Picture, Row, Told

CEILING_SIDE = 8192  # of the matrices multiplied to find a GPU's own limit
CPU_SIDE = 1024  # the same on a CPU, which larger ones would take minutes
WARM_UP = 2  # steps that are not counted
STEPS = 8


def timed(states: Iterator[Sequence[mx.array]], steps: int, told: Told | None = None) -> tuple[float, ...]:
    """Seconds of each of `steps` steps behind WARM_UP others.

    `states` yields what a step makes, unevaluated; it is evaluated and checked as in a render. Raises
    NonFiniteError.
    """
    taken = []
    for index in range(1, WARM_UP + steps + 1):
        if told is not None:
            told(f"step {index} of {WARM_UP + steps}")
        started = time.perf_counter()
        made = next(states)
        finite = mx.stack([mx.isfinite(one).all() for one in made]).all()
        mx.eval(*made, finite)
        if not finite.item():
            raise NonFiniteError(index)
        taken.append(time.perf_counter() - started)
    return tuple(taken[WARM_UP:])


def benched(dtype: mx.Dtype, top: float, rows: Sequence[Row], pictures: Sequence[Picture] = ()) -> Bench:
    """What was measured here, with a ceiling of `top` FLOP/s."""
    device = str(mx.device_info()["device_name"])
    arithmetic = str(dtype).removeprefix("mlx.core.")
    return Bench(device, version("mlx"), arithmetic, top, tuple(rows), tuple(pictures))


def ceiling(dtype: mx.Dtype, side: int | None = None) -> float:
    """FLOP/s of the fastest of some products of random square matrices."""
    if side is None:
        side = CEILING_SIDE if mx.default_device() == mx.Device(mx.gpu) else CPU_SIDE
    a, b = (mx.random.normal((side, side), dtype, key=mx.random.key(i)) for i in (0, 1))
    mx.eval(a, b, a @ b)
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        mx.eval([a @ b for _ in range(4)])
        taken.append((time.perf_counter() - started) / 4)
    return 2 * side**3 / min(taken)
