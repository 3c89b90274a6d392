"""Many who come at once: what is the same for all of them is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from pixelkiln.jobs.web import app, openapi
from pixelkiln.jobs.web.lately import Lately

MANY = 8


def at_once(act: Callable[[], Any]) -> list[Any]:
    """What each of many threads finds."""
    ready = threading.Barrier(MANY)

    def one(_: int) -> Any:
        ready.wait()
        return act()

    with ThreadPoolExecutor(MANY) as threads:
        return list(threads.map(one, range(MANY)))


def test_many_who_look_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pixelkiln.jobs.web.lately.time.monotonic", lambda: now[0])
    seen, looks = Lately[int](), list[str]()

    def look(who: str) -> int:
        looks.append(who)
        return len(looks)

    assert [seen.get(who, 1.0, lambda who=who: look(who)) for who in "aabba"] == [1, 1, 2, 2, 1]
    now[0] += 1
    assert seen.get("a", 1.0, lambda: look("a")) == 3


def test_a_look_serves_those_who_asked_before_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pixelkiln.jobs.web.lately.time.monotonic", lambda: now[0])
    seen, looks = Lately[int](), iter(range(1, 9))

    def ask(asked: float) -> int:
        return seen.get("a", 0, lambda: next(looks), asked)

    assert ask(99.0) == 1
    assert ask(99.9) == 1
    assert ask(100.0) == 2  # the look at 100 may have been before
    now[0] = 102.0
    assert [ask(101.0), ask(101.5), ask(102.5)] == [3, 3, 4]


def test_the_api_is_described_once(monkeypatch: pytest.MonkeyPatch) -> None:
    app._description.cache_clear()  # made by whoever asked before
    made, really = list[int](), openapi.get_openapi
    two = threading.Barrier(2)

    def make(**named: Any) -> dict[str, Any]:
        made.append(1)
        with suppress(threading.BrokenBarrierError):  # nobody else comes
            two.wait(0.5)
        return really(**named)

    monkeypatch.setattr(openapi, "get_openapi", make)
    assert len({id(one) for one in at_once(app.description)}) == 1
    assert len(made) == 1
