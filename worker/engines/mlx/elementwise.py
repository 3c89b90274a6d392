"""Chains of elementwise operations as one kernel each, where that measures faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

import mlx.core as mx

P = ParamSpec("P")
R = TypeVar("R")

_separate: ContextVar[bool] = ContextVar("separate kernels", default=False)


@contextmanager
def separate() -> Iterator[None]:
    """Within, no chain is one kernel: to time what that saves."""
    before = _separate.set(True)
    try:
        yield
    finally:
        _separate.reset(before)


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """`function` compiled on a GPU. On a CPU it stays as written: there MLX would start a C++ compiler.

    One kernel rounds as the separate ones do, except that it may contract a product and a sum.
    """
    compiled = mx.compile(function, shapeless=True)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        on_gpu = mx.default_device() == mx.Device(mx.gpu)
        return (compiled if on_gpu and not _separate.get() else function)(*args, **kwargs)

    return call
