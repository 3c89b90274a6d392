"""Tasks that watch: how they leave, and what an outage is to them. No worker is there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pixelkiln import Kiln, NotReadyError, Settings


def rows(number: int) -> list[Any]:
    return [{"prompt": f"fox {n}", "model": "demo"} for n in range(number)]


async def all_of(kiln: Kiln, ids: list[str]) -> list[tuple[str, str]]:
    return [(one.id, one.state) async for one in kiln.awatch(ids)]


def test_a_task_that_is_cancelled_leaves_and_asks_no_more(kiln: Kiln) -> None:
    batch = kiln.batch(rows(2), name="night")
    asked: list[object] = []
    standing = kiln.queue.standing

    def noted(ids: Any) -> Any:
        asked.append(ids)
        return standing(ids)

    kiln.queue.standing = noted  # type: ignore[method-assign]

    async def watch_a_while() -> int:
        seen = asyncio.Event()

        async def follow() -> None:
            async for one in kiln.awatch(batch.ids, interval=0.001):
                assert one.state == "queued"
                if one.id == batch.ids[-1]:
                    seen.set()

        task = asyncio.create_task(follow())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(asked)

    before = asyncio.run(watch_a_while())
    assert len(asked) <= before + 1  # one that was under way


def test_while_redis_answers_late_the_loop_goes_on_and_can_be_cancelled(kiln: Kiln) -> None:
    job = kiln.submit(prompt="x", model="demo")
    begun, go_on = threading.Event(), threading.Event()
    standing = kiln.queue.standing

    def late(ids: Any) -> Any:
        begun.set()
        go_on.wait(60)
        return standing(ids)

    kiln.queue.standing = late  # type: ignore[method-assign]

    async def leave() -> None:
        task = asyncio.create_task(all_of(kiln, [job.id]))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task  # though Redis has not answered
        go_on.set()

    asyncio.run(leave())


def test_an_outage_is_waited_out_with_asyncio(
    kiln: Kiln, rewire: Callable[..., tuple[Settings, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, proxy = rewire("redis")
    job = kiln.submit(prompt="x", model="demo")
    pauses: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            proxy.cut()
        elif len(pauses) == 3:
            proxy.mend()
            kiln.cancel([job.id])
        await real_sleep(0)

    monkeypatch.setattr("pixelkiln.jobs.client.asyncio.sleep", sleep)
    with Kiln(changed) as through:
        states = [state for _, state in asyncio.run(all_of(through, [job.id]))]
        assert states == ["queued", "cancelled"]
        assert pauses == [0.2, 1.0, 1.0]
        proxy.cut()
        with pytest.raises(NotReadyError):  # at first it is an error
            asyncio.run(all_of(through, [job.id]))
