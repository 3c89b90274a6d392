from __future__ import annotations

import mlx.core as mx

from pixelkiln.worker.engines.hidream.prefixes import Prefix, PrefixCache, size_of


def prefix() -> Prefix:
    return [(mx.zeros((1, 2, 3, 4)), mx.zeros((1, 2, 3, 4)))]  # 192 bytes


def test_the_least_recently_used_goes_first() -> None:
    cache = PrefixCache(2 * size_of(prefix()))
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(key, prefix)
    assert cache.runs == 4  # a, b, c, and b again, which made room for c


def test_one_too_large_is_used_but_not_kept() -> None:
    cache = PrefixCache(size_of(prefix()) - 1)
    assert cache.get("a", prefix)
    assert cache.get("a", prefix)
    assert cache.runs == 2


def test_clearing_forgets() -> None:
    cache = PrefixCache(2**20)
    cache.get("a", prefix)
    cache.clear()
    cache.get("a", prefix)
    assert cache.runs == 2
