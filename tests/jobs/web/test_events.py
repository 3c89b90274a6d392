"""What happens, as it is streamed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixelkiln import Kiln
from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.web import streams
from pixelkiln.jobs.web.api import events
from pixelkiln.jobs.web.tokens import Tokens
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.serving import People
from tests.jobs.web.test_jobs import sent


@contextmanager
def heard(client: httpx.Client, path: str, **headers: str) -> Iterator[Iterator[tuple[str, str, Any]]]:
    """Kind, id and data of each event."""
    with client.stream("GET", path, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")

        def told() -> Iterator[tuple[str, str, Any]]:
            fields: dict[str, str] = {}
            deadline = time.monotonic() + 60  # lines come for as long as it is open
            for line in answer.iter_lines():
                assert time.monotonic() < deadline
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
                    fields = {}

        yield told()


def test_a_jobs_stream_ends_with_it(local: httpx.Client, fake: FakeKiln) -> None:
    job = sent(local)
    with heard(local, f"/v1/jobs/{job['id']}/events") as stream:
        assert next(stream)[2]["state"] == "queued"
        fake.work()
        assert [event[2]["state"] for event in stream][-1] == "finished"
    with heard(local, f"/v1/jobs/{job['id']}/events") as stream:
        assert [event[2]["state"] for event in stream] == ["finished"]


def test_who_comes_back_hears_what_ended_meanwhile(real: Door, kiln: Kiln) -> None:
    one = real("one")
    with heard(one, "/v1/events") as stream:
        job = sent(one)
        _, last, data = next(event for event in stream if event[1])
        assert (data["id"], data["state"], data["client"]) == (job["id"], "queued", "one")
    theirs = sent(real("two"))
    assert one.delete(f"/v1/jobs/{job['id']}").status_code == 200
    with heard(one, "/v1/events", **{"Last-Event-ID": last}) as stream:
        data = next(stream)[2]
        assert (data["id"], data["state"]) == (job["id"], "cancelled")
    with heard(real("admin"), "/v1/events") as stream:
        assert next(stream)[2]["id"] == theirs["id"]


def test_previews_are_told_to_whom_they_belong(real: Door, kiln: Kiln) -> None:
    one, two = real("one"), real("two")
    job, other = sent(one), sent(two)
    webp = b"RIFF\x04\x00\x00\x00WEBP"
    with heard(one, "/v1/events") as stream:
        assert next(stream)[2]["id"] == job["id"]
        while True:
            for client, made in (("two", other), ("one", job)):
                kiln.redis.set(keys.PREVIEW(client, made["id"]), webp)
                kiln.redis.publish(keys.EVENTS, json.dumps({"event": "preview", "job": made["id"]}))
            kind, _, data = next(stream)
            assert data["id"] == job["id"]
            if kind == "preview":
                break
    path = f"/v1/jobs/{job['id']}/preview"
    assert one.get(path).content == webp
    assert one.get(path).headers["content-type"] == "image/webp"
    assert two.get(path).status_code == 404
    kiln.redis.hset(keys.JOB(other["id"]), "origin", "kiln:demo:bf16:normal:one")  # as any producer may
    moved = f"/v1/jobs/{other['id']}"
    assert [one.get(where).status_code for where in (moved, f"{moved}/preview")] == [200, 404]
    assert one.get(f"/previews/{other['id']}").status_code == 404
    kiln.redis.set(keys.PREVIEW("one", job["id"]), "<script>")
    assert one.get(path).status_code == 404


def test_another_clients_stream_is_not_there(door: Door) -> None:
    job = sent(door("one"))
    assert door("two").get(f"/v1/jobs/{job['id']}/events").status_code == 404
    assert door("two").get("/v1/events?client=one").status_code == 404


@pytest.mark.parametrize("path", ["/v1/events", "/v1/jobs/{}/events"])
def test_a_stream_ends_with_its_token(door: Door, fake: FakeKiln, people: People, path: str) -> None:
    name = f"lost-{len(path)}"
    bearer = {"Authorization": f"Bearer {Tokens(people.path).make(name, 'one')}"}
    job = fake.as_client("one").submit(prompt="a fox", model="demo")
    with heard(door("one"), path.format(job.id), **bearer) as stream:
        assert next(stream)[2]["state"] == "queued"
        Tokens(people.path).revoke(name)
        fake.work()
        assert "finished" not in (data["state"] for _, _, data in stream)


def test_a_stream_without_a_token_ends_with_the_first_one(
    local: httpx.Client, fake: FakeKiln, tmp_path: Path
) -> None:
    job = sent(local)
    with heard(local, f"/v1/jobs/{job['id']}/events") as stream:
        assert next(stream)[2]["state"] == "queued"
        Tokens(tmp_path / "none.json").make("phone", "acme")
        fake.work()
        assert "finished" not in (data["state"] for _, _, data in stream)


def until(stream: Iterator[tuple[str, str, Any]], last: Callable[[str, Any], bool]) -> list[tuple[str, Any]]:
    """Kind and data of those that come up to one, each once."""
    found: list[tuple[str, Any]] = []
    for kind, _, data in stream:
        found += [] if (kind, data) in found else [(kind, data)]
        if last(kind, data):
            break
    return found


def test_what_many_did_meanwhile_is_told_of_each_or_that_there_is_more(
    real: Door, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE", 10)
    monkeypatch.setattr(events, "FIRST", 20)
    monkeypatch.setattr(events, "MISSED", 60)
    one, theirs = real("one"), kiln.as_client("one")
    with heard(one, "/v1/events") as stream:
        job = sent(one)
        last = next(told for _, told, data in stream if told and data["id"] == job["id"])
    spec: Any = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}
    ids = [made.id for made in theirs.submit_many([spec] * 45)]
    monkeypatch.setattr(streams.Streams, "_look", lambda self: None)  # what is told is what stands
    with heard(one, "/v1/events") as stream:
        told = until(stream, lambda kind, data: kind == "more")
        assert len(told) > 20
        assert "/v1/jobs" in told[-1][1]["detail"]
    theirs.cancel(ids)
    left = set(ids)
    with heard(one, "/v1/events", **{"Last-Event-ID": last}) as stream:
        for kind, _, data in stream:
            assert kind == "job"
            left -= {data["id"]} if data["state"] == "cancelled" else set()
            if not left:
                break
    monkeypatch.setattr(events, "MISSED", 40)
    for since in (last, "2020-01-01T00:00:00Z"):
        with heard(one, "/v1/events", **{"Last-Event-ID": since}) as stream:
            assert until(stream, lambda kind, data: kind == "more")[-1][0] == "more"


def test_who_leaves_while_it_is_told_how_things_stand_keeps_its_place(
    real: Door, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE", 1)
    monkeypatch.setattr(events, "FIRST", 2)
    spec: Any = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}
    kiln.as_client("one").submit_many([spec] * 2)
    monkeypatch.setattr(streams.Streams, "_look", lambda self: None)
    with real("one").stream("GET", "/v1/events", timeout=30) as answer:
        fields = [line.partition(":")[0] for line, _ in zip(answer.iter_lines(), range(10), strict=False)]
    assert fields == ["retry", "", "event", "data", "", "event", "data", "", "id", "event"]


def test_redis_that_goes_away_while_it_is_told_how_things_stand_is_more(
    local: httpx.Client, fake: FakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = events._page

    def away(kiln: Kiln, state: str, *words: Any) -> Any:
        if state == "queued":
            raise NotReadyError("Redis is away")
        return page(kiln, state, *words)

    monkeypatch.setattr(events, "_page", away)
    sent(local)
    with heard(local, "/v1/events") as stream:
        assert next(stream)[0] == "more"
