"""Watching for programs: by ids or a batch's name, with threads and with asyncio, on both farms alike."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from pixelkiln import Kiln, NoSuchJobError, Settings, UsageError
from pixelkiln.testing import FakeKiln
from tests.jobs.farms import Door, door, farm, new_client
from tests.waiting import until

__all__ = ["door", "farm"]


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
