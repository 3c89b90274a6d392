"""MLX's own memory limits, set for as long as an engine lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx


@contextmanager
def limits(budget: int, weights: int) -> Iterator[None]:
    """Within: MLX waits rather than hold more than `budget` bytes, and gives freed buffers back beyond them.

    A CPU's MLX does neither, see leave_room. On Metal as much is wired as the device recommends, so that
    weights are never paged out between jobs.
    """
    memory = mx.set_memory_limit(budget)
    cache = mx.set_cache_limit(max(budget - weights, 0))
    wired = None
    if mx.metal.is_available():
        most = int(mx.device_info()["max_recommended_working_set_size"])
        wired = mx.set_wired_limit(min(budget, most))
    try:
        yield
    finally:
        mx.set_memory_limit(memory)
        mx.set_cache_limit(cache)
        if wired is not None:
            mx.set_wired_limit(wired)


def leave_room(budget: int, needed: int) -> None:
    """Within limits(), before a render that needs so many bytes: keep no more freed buffers than fit beside.

    A GPU's allocator gives them back before it passes the limit, a CPU's never looks at it.
    """
    if mx.default_device().type == mx.DeviceType.cpu:
        left = max(budget - needed, 0)
        mx.set_cache_limit(left)
        if mx.get_cache_memory() > left:
            mx.clear_cache()
