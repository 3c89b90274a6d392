"""MLX's own memory limits: the process's, whatever engines it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

CACHE = 4 * 2**30  # bytes of freed buffers that are kept: what a large render frees and takes again in a step


@contextmanager
def limits(budget: int) -> Iterator[None]:
    """Within: MLX waits rather than hold more than `budget` bytes, and keeps at most CACHE of freed buffers.

    A GPU's allocator gives these back before it passes the budget, a CPU's does not look: see leave_room. On
    Metal as much is wired as the device recommends, so that weights are never paged out between jobs.
    """
    memory = mx.set_memory_limit(budget)
    cache = mx.set_cache_limit(min(CACHE, budget))
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


def leave_room(left: int) -> None:
    """Before a render beside which `left` bytes stay free: a CPU keeps no more freed buffers than that."""
    if mx.default_device().type == mx.DeviceType.cpu:
        left = min(max(left, 0), CACHE)
        mx.set_cache_limit(left)
        if mx.get_cache_memory() > left:
            mx.clear_cache()
