"""What happens, as it is streamed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from pixelkiln import Kiln
from pixelkiln.jobs import keys
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.web.streams import Streams
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.test_jobs import sent


@contextmanager
def heard(client: httpx.Client, path: str, **headers: str) -> Iterator[Iterator[tuple[str, str, Any]]]:
    """Kind, id and data of each event."""
    with client.stream("GET", path, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")

        def events() -> Iterator[tuple[str, str, Any]]:
            fields: dict[str, str] = {}
            deadline = time.monotonic() + 60  # lines come for as long as it is open
            for line in answer.iter_lines():
                assert time.monotonic() < deadline
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    yield fields["event"], fields["id"], json.loads(fields["data"])
                    fields = {}

        yield events()


def test_a_jobs_stream_ends_with_it(local: httpx.Client, fake: FakeKiln) -> None:
    job = sent(local)
    with heard(local, f"/v1/jobs/{job['id']}/events") as events:
        assert next(events)[2]["state"] == "queued"
        fake.work()
        assert [event[2]["state"] for event in events][-1] == "finished"
    with heard(local, f"/v1/jobs/{job['id']}/events") as events:
        assert [event[2]["state"] for event in events] == ["finished"]


def test_who_comes_back_hears_what_ended_meanwhile(real: Door, kiln: Kiln) -> None:
    one = real("one")
    with heard(one, "/v1/events") as events:
        job = sent(one)
        _, last, data = next(events)
        assert (data["id"], data["state"], data["client"]) == (job["id"], "queued", "one")
    theirs = sent(real("two"))
    assert one.delete(f"/v1/jobs/{job['id']}").status_code == 200
    with heard(one, "/v1/events", **{"Last-Event-ID": last}) as events:
        data = next(events)[2]
        assert (data["id"], data["state"]) == (job["id"], "cancelled")
    with heard(real("admin"), "/v1/events") as events:
        assert next(events)[2]["id"] == theirs["id"]


def test_previews_are_told_to_whom_they_belong(real: Door, kiln: Kiln) -> None:
    one, two = real("one"), real("two")
    job, other = sent(one), sent(two)
    webp = b"RIFF\x04\x00\x00\x00WEBP"
    with heard(one, "/v1/events") as events:
        assert next(events)[2]["id"] == job["id"]
        while True:
            for made in (other, job):
                kiln.redis.set(keys.PREVIEW(made["id"]), webp)
                kiln.redis.publish(keys.EVENTS, json.dumps({"event": "preview", "job": made["id"]}))
            kind, _, data = next(events)
            assert data["id"] == job["id"]
            if kind == "preview":
                break
    path = f"/v1/jobs/{job['id']}/preview"
    assert one.get(path).content == webp
    assert one.get(path).headers["content-type"] == "image/webp"
    assert two.get(path).status_code == 404
    kiln.redis.set(keys.PREVIEW(job["id"]), "<script>")
    assert one.get(path).status_code == 404


def test_another_clients_stream_is_not_there(door: Door) -> None:
    job = sent(door("one"))
    assert door("two").get(f"/v1/jobs/{job['id']}/events").status_code == 404
    assert door("two").get("/v1/events?client=one").status_code == 404


def test_a_look_reads_only_what_may_be_another_and_keeps_only_what_is_new(
    kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams, read, told = Streams(kiln), list[set[str]](), list[str]()
    monkeypatch.setattr(streams, "_tell", lambda status, event: told.append(status.id))
    kind = type(kiln.queue)
    statuses = kind.statuses

    def reading(queue: Any, ids: list[str]) -> Any:
        read.append(set(ids))
        return statuses(queue, ids)

    monkeypatch.setattr(kind, "statuses", reading)
    ended, waits = (kiln.submit(prompt="a fox", model="demo", width=64, height=64).id for _ in range(2))
    kiln.cancel([ended])
    for _ in range(2):
        streams._find()
    assert (read, sorted(told)) == ([{ended, waits}, {waits}], sorted([ended, waits]))
    assert kiln.retry([ended]) == {ended: "again"}
    streams._find()
    assert read[-1] == {ended, waits}
    streams._remember(JobStatus("old", "finished", ended_at="2020-01-01T00:00:00Z"))
    streams._find()
    assert set(streams._known) == {ended, waits}
