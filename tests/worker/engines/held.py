"""What MLX holds, once all is done and given back that was on its way."""

from __future__ import annotations

import gc

import mlx.core as mx


def held() -> int:
    """Bytes in arrays that somebody still has; what other tests left behind is collected first."""
    gc.collect()
    mx.synchronize()
    mx.clear_cache()
    return mx.get_active_memory()
