from __future__ import annotations

from functools import partial

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.mlx.staged import Staged

SIDE = 512
PART = SIDE * SIDE * 4  # bytes


def staged(keep: bool, loaded: list[int], parts: int = 4) -> Staged[mx.array]:
    def load(i: int) -> mx.array:
        loaded.append(i)
        part = mx.full((SIDE, SIDE), 0.5 + i)
        mx.eval(part)
        return part

    return Staged([partial(load, i) for i in range(parts)], keep)


def use(part: mx.array, x: mx.array) -> mx.array:
    return (x[None] @ part)[0] / SIDE


@pytest.mark.parametrize("keep", [True, False])
def test_parts_run_in_order_and_no_more_are_held_than_said(keep: bool) -> None:
    loaded: list[int] = []
    parts, x = staged(keep, loaded), mx.ones(SIDE)
    mx.eval(x)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    y = parts.through(x, use)
    assert y[0].item() == pytest.approx(0.5 * 1.5 * 2.5 * 3.5)
    held, peak = mx.get_active_memory() - before, mx.get_peak_memory() - before
    assert (held // PART, peak // PART) == ((4, 4) if keep else (0, 1))
    parts.through(x, use)
    assert loaded == ([0, 1, 2, 3] if keep else [0, 1, 2, 3] * 2)
    parts.free()
    assert mx.get_active_memory() - before < PART


def test_a_run_that_fails_holds_nothing() -> None:
    def fails(part: mx.array, x: mx.array) -> mx.array:
        raise ValueError("no")

    before = mx.get_active_memory()
    with pytest.raises(ValueError, match="no"):
        staged(False, []).through(mx.ones(SIDE), fails)
    assert mx.get_active_memory() - before < PART
