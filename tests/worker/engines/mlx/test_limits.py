"""MLX's limits are the process's, and are put back."""

from __future__ import annotations

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.mlx.limits import CACHE, leave_room, limits


def cache_limit() -> int:
    """MLX tells it only when it is set."""
    found = mx.set_cache_limit(0)
    mx.set_cache_limit(found)
    return found


def test_a_budget_sets_limits_until_it_is_left() -> None:
    before = mx.get_memory_limit(), cache_limit()
    with limits(3 * 2**30):
        assert (mx.get_memory_limit(), cache_limit()) == (3 * 2**30, 3 * 2**30)
    assert (mx.get_memory_limit(), cache_limit()) == before
    with limits(64 * 2**30):
        assert cache_limit() == CACHE  # whatever else is free
    with pytest.raises(ZeroDivisionError), limits(3 * 2**30):
        raise ZeroDivisionError
    assert (mx.get_memory_limit(), cache_limit()) == before


@pytest.mark.skipif(mx.default_device().type != mx.DeviceType.cpu, reason="a GPU's allocator does so itself")
def test_freed_buffers_leave_where_a_render_needs_their_room() -> None:
    with limits(3 * 2**30):
        mx.eval(mx.ones(2**22))
        assert mx.get_cache_memory() >= 2**24
        leave_room(2**30)
        assert mx.get_cache_memory() >= 2**24
        leave_room(2**20)
        assert (mx.get_cache_memory(), cache_limit()) == (0, 2**20)
        leave_room(-1)
        assert cache_limit() == 0
        leave_room(64 * 2**30)
        assert cache_limit() == CACHE
