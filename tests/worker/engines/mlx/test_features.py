from __future__ import annotations

import mlx.core as mx

from pixelkiln.worker.engines.mlx.features import Recent, size_of

Value = list[tuple[mx.array, mx.array]]


def value() -> Value:
    return [(mx.zeros((1, 2, 3, 4)), mx.zeros((1, 2, 3, 4)))]  # 192 bytes


def test_the_least_recently_used_goes_first() -> None:
    cache = Recent[Value](2 * size_of(value()))
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(key, value)
    assert cache.runs == 4  # a, b, c, and b again, which made room for c


def test_one_too_large_is_used_but_not_kept() -> None:
    cache = Recent[Value](size_of(value()) - 1)
    assert cache.get("a", value)
    assert cache.get("a", value)
    assert cache.runs == 2


def test_clearing_forgets() -> None:
    cache = Recent[Value](2**20)
    cache.get("a", value)
    cache.clear()
    cache.get("a", value)
    assert cache.runs == 2
