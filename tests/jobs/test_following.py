"""Watching for programs: by ids or a batch's name, with threads and with asyncio, on both farms alike."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelkiln import Kiln, NoSuchJobError, NotReadyError, Settings, UsageError
from pixelkiln.testing import FakeKiln
from pixelkiln.worker.local.instance import Local
from tests.jobs.farms import Door, memory_door, new_client, real_door, real_farm
from tests.waiting import until


@pytest.fixture(scope="module")
def farm(servers: Local, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with real_farm(servers, tmp_path_factory.mktemp("farm")) as settings:
        yield settings


@pytest.fixture(params=["real", "in memory"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    if request.param == "real":
        yield from real_door(request.getfixturevalue("farm"))
    else:
        yield memory_door()


@pytest.fixture
def watched(door: Door) -> Kiln:
    return door(new_client("mine"))


def rows(number: int) -> list[Any]:
    return [{"prompt": f"fox {n}", "model": "demo", "width": 64, "height": 64} for n in range(number)]


async def all_of(kiln: Kiln, *ids: list[str], **named: Any) -> list[tuple[str, str]]:
    return [(one.id, one.state) async for one in kiln.awatch(*ids, **named)]


def test_a_batch_is_watched_by_its_name(watched: Kiln) -> None:
    batch = watched.batch(rows(3), name="night")
    changes = [(one.id, one.state) for one in watched.watch(batch="night")]
    assert {one for one in changes if one[1] == "finished"} == {(one, "finished") for one in batch.ids}
    assert [(one.id, one.state) for one in watched.watch(batch.ids)] == [
        (one, "finished") for one in batch.ids
    ]
    assert [one.state for one in batch.watch()] == ["finished"] * 3


def test_the_same_with_asyncio_beside_other_tasks(watched: Kiln) -> None:
    batch = watched.batch(rows(3), name="night")
    turns = 0

    async def both() -> list[tuple[str, str]]:
        nonlocal turns

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count())
        try:
            return await all_of(watched, batch="night")
        finally:
            other.cancel()

    changes = asyncio.run(both())
    assert {one for one in changes if one[1] == "finished"} == {(one, "finished") for one in batch.ids}
    assert turns > 10
    assert asyncio.run(all_of(watched, batch.ids)) == [(one, "finished") for one in batch.ids]


def test_what_is_not_there_or_not_named_is_an_error(watched: Kiln) -> None:
    with pytest.raises(NoSuchJobError, match="no batch night"):
        list(watched.watch(batch="night"))
    with pytest.raises(NoSuchJobError):
        asyncio.run(all_of(watched, batch="night"))
    for named in ({}, {"job_ids": ["x"], "batch": "night"}):
        with pytest.raises(UsageError, match="the ids of jobs, or batch=NAME"):
            list(watched.watch(**named))  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            asyncio.run(all_of(watched, **named))


def test_a_worker_tells_what_it_uses_of_its_memory(farm: Settings) -> None:
    with Kiln(farm) as kiln:
        kiln.wait([kiln.submit(rows(1)[0]).id])
        until(lambda: any(one.used for one in kiln.farm().workers), "it tells that")
        (worker,) = kiln.farm().workers
    assert 2**26 < worker.used < worker.memory


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


def test_a_fake_farm_ends_what_asyncio_watches() -> None:
    kiln = FakeKiln()
    kiln.next_waits()
    job = kiln.submit(prompt="a fox", model="demo")

    async def release() -> None:
        kiln.release(job.id)

    async def both() -> str:
        task = asyncio.create_task(all_of(kiln, [job.id]))
        await release()
        return (await task)[-1][1]

    assert asyncio.run(both()) == "finished"


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_docs_run(number: int) -> None:
    docs = (Path(__file__).parents[2] / "docs/watching.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", docs, re.DOTALL | re.MULTILINE)
    exec(examples[number], {})
    assert len(examples) == 2
