"""How a server looks what happens, and what of it waits for one listener."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pixelkiln import Kiln
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.web import listening, streams
from pixelkiln.jobs.web.app import build
from pixelkiln.jobs.web.listening import Event, Stream
from pixelkiln.jobs.web.streams import Streams
from pixelkiln.jobs.web.tokens import Tokens
from pixelkiln.testing import FakeKiln


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What is told, once something looks."""
    found: list[Event] = []
    monkeypatch.setattr(Streams, "_tell", lambda self, told: found.extend(told))
    return found


def submitted(kiln: Kiln, count: int) -> list[str]:
    spec: Any = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}
    return [job.id for job in kiln.submit_many([spec] * count)]


def taken(told: list[Event]) -> list[tuple[str, str]]:
    """State and id of each, sorted; it is told no more."""
    found = sorted((one.state, one.id) if one else ("", body.decode().split()[1]) for one, body in told)
    told.clear()
    return found


def test_a_look_reads_only_what_may_be_another_and_keeps_only_what_is_new(
    kiln: Kiln, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, read = Streams(kiln), list[set[str]]()
    kind = type(kiln.queue)
    statuses = kind.statuses

    def reading(queue: Any, ids: list[str]) -> Any:
        read.append(set(ids))
        return statuses(queue, ids)

    monkeypatch.setattr(kind, "statuses", reading)
    ended, waits = submitted(kiln, 2)
    kiln.cancel([ended])
    for _ in range(2):
        looks._find()
    assert read == [{ended, waits}, {waits}]
    assert taken(told) == [("cancelled", ended), ("queued", waits)]
    assert kiln.retry([ended]) == {ended: "again"}
    looks._find()
    assert read[-1] == {ended, waits}
    looks._remember(JobStatus("old", "finished", ended_at="2020-01-01T00:00:00Z"))
    looks._find()
    assert set(looks._known) == {ended, waits}


def test_what_happens_to_many_at_once_is_told_of_each(
    kiln: Kiln, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "AT_ONCE", 10)
    monkeypatch.setattr(streams, "MOST", 50)
    looks, ids = Streams(kiln), submitted(kiln, 35)
    looks._find()
    assert taken(told) == sorted(("queued", one) for one in ids)
    kiln.cancel(ids)
    looks._find()
    assert taken(told) == sorted(("cancelled", one) for one in ids)
    asked, marks = [0], Kiln.marks

    def asking(*words: Any, **more: Any) -> Any:
        asked[0] += 1
        return marks(*words, **more)

    monkeypatch.setattr(Kiln, "marks", asking)
    looks._find()
    assert (told, asked) == ([], [2])  # what is running, and the newest, which are known
    looks._looks = streams.WHOLE
    looks._find()
    assert (told, asked) == ([], [2 + 2 + 4])  # and what waits
    submitted(kiln, 55)
    looks._find()
    assert [state for state, _ in taken(told)].count("queued") == 50
    looks._find()
    assert told == []


def test_a_look_that_broke_off_is_made_up_for(
    kiln: Kiln, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "AT_ONCE", 10)
    looks, marks = Streams(kiln), Kiln.marks
    looks._find()
    ids = submitted(kiln, 25)

    def away(*words: Any, **more: Any) -> Any:
        if more.get("before"):
            raise NotReadyError("Redis is away")
        return marks(*words, **more)

    with monkeypatch.context() as broken:
        broken.setattr(Kiln, "marks", away)
        with pytest.raises(NotReadyError):
            looks._find()
    looks._find()
    assert taken(told) == sorted(("queued", one) for one in ids)


def test_more_than_one_look_takes_in_is_told_as_such(
    kiln: Kiln, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "AT_ONCE", 10)
    monkeypatch.setattr(streams, "MOST", 20)
    looks = Streams(kiln)
    submitted(kiln, 25)
    looks._find()
    assert [state for state, _ in taken(told)] == [""] + ["queued"] * 20
    looks._find()
    assert told == []


def test_after_an_outage_a_look_goes_back_to_the_last_one(
    kiln: Kiln, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    since: list[timedelta] = []
    looks, marks = Streams(kiln), Kiln.marks

    def asking(*words: Any, **more: Any) -> Any:
        since.append(more.get("since", timedelta()))
        return marks(*words, **more)

    monkeypatch.setattr(Kiln, "marks", asking)
    looks._find()
    looks._looked = time.monotonic() - 3600
    looks._find()
    first, second = (one.total_seconds() for one in since if one)
    assert (first, round(second - first, -2)) == (60, 3600)


def test_what_happens_to_one_that_waits_for_long_is_told_by_a_whole_look(
    kiln: Kiln, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "OVERLAP", timedelta(hours=-1))  # no moment is found any more
    batch = kiln.batch([{"prompt": "a fox", "model": "demo"}], "night")
    looks = Streams(kiln)

    def look() -> list[tuple[bool, str]]:
        looks._looks = streams.WHOLE
        told.clear()
        looks._find()
        return [(one.held, one.lane.split(":")[3]) for one, _ in told if one]

    assert look() == [(False, "normal")]
    assert look() == []
    batch.pause()
    assert look() == [(True, "normal")]
    batch.resume()
    assert look() == [(False, "normal")]
    batch.prioritize("high")
    assert look() == [(False, "high")]


def test_a_preview_of_what_was_not_known_tells_of_it_first(kiln: Kiln, told: list[Event]) -> None:
    (job,) = submitted(kiln, 1)
    Streams(kiln)._preview(job)
    assert [body.split()[3] for _, body in told] == [b"job", b"preview"]


def test_a_listener_who_is_far_behind_hears_that_there_is_more_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def behind() -> list[bytes]:
        stream = Stream(lambda status: True, frozenset())
        stream.put([(None, b"old")] * 4)
        stream.put([(None, b"old")])
        stream.put([(None, b"new")] * 2)
        found = [await stream.next() for _ in range(3)]
        stream.close()
        assert await stream.next() is None
        return [body for some in found for _, body in some or ()]

    monkeypatch.setattr(listening, "BEHIND", 4)
    monkeypatch.setattr(listening, "TOGETHER", 1)
    assert asyncio.run(behind()) == [listening.more(), b"new", b"new"]


def test_who_leaves_before_the_answer_begins_listens_no_more(tmp_path: Path) -> None:
    fake = FakeKiln()
    job = fake.submit(prompt="a fox", model="demo")
    app = build(fake, Tokens(tmp_path / "none.json"))

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """To nobody."""

    async def ask(path: str) -> None:
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "query_string": b""}
        scope |= {"headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "root_path": ""}
        await asyncio.wait_for(app(scope, receive, send), 20)

    for path in ("/v1/events", f"/v1/jobs/{job.id}/events"):
        asyncio.run(ask(path))
        assert list(app.state.streams._streams) == [], path
    app.state.streams.close()
    app.state.streams.join()
