"""Redis or the bucket away: told as such, and over when it is over."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from pixelkiln import Settings
from pixelkiln.jobs.web import reading
from tests.jobs.web.conftest import Door
from tests.jobs.web.serving import People, serving
from tests.jobs.web.test_events import heard
from tests.jobs.web.test_farm import FILE, picture
from tests.jobs.web.test_jobs import FOX, sent
from tests.waiting import until
from tests.wire import Proxy

MANY = 60  # more than there are threads
READS = ("thumbnails", "v1/jobs", "pictures")


@pytest.fixture
def cut_off(
    rewire: Callable[..., tuple[Settings, Proxy]], opened: ExitStack, people: People
) -> tuple[Door, Proxy, Proxy]:
    """A server with a proxy before its Redis, and one before its bucket."""
    settings, redis = rewire("redis")
    settings, bucket = rewire("s3", settings)
    where = opened.enter_context(serving(settings, people.path))

    def door(who: str) -> httpx.Client:
        headers = people.headers(who)
        return opened.enter_context(httpx.Client(base_url=where, headers=headers, timeout=60))

    return door, redis, bucket


def test_redis_away(cut_off: tuple[Door, Proxy, Proxy]) -> None:
    door, redis, _ = cut_off
    job = sent(door("one"))
    redis.cut()
    for who, shown in (("one", False), ("admin", True)):
        for answer in (
            door(who).post("/v1/jobs", json=FOX),
            door(who).get(f"/v1/jobs/{job['id']}"),
            door(who).get("/v1/jobs"),
            door(who).get("/v1/workers"),
            door(who).post("/v1/batches", content=FILE),
            door(who).get("/v1/events"),
        ):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "queue" in answer.json()["detail"] or shown
            assert (redis.address in answer.json()["detail"]) is shown
    redis.mend()
    assert door("one").get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"


def test_the_bucket_away(cut_off: tuple[Door, Proxy, Proxy], tmp_path: Path) -> None:
    door, _, bucket = cut_off
    bucket.cut()
    answer = door("one").post("/v1/references", content=picture())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"] == "the bucket cannot be reached; try again later"
    assert door("one").post("/v1/jobs", json=FOX).status_code == 201
    bucket.mend()
    assert door("one").post("/v1/references", content=picture()).status_code == 201


def test_a_bucket_that_hangs_stops_nothing_else(
    cut_off: tuple[Door, Proxy, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.5)
    door, _, bucket = cut_off
    one, two = door("one"), door("two")
    two.timeout = httpx.Timeout(20)
    bucket.hang()
    with ThreadPoolExecutor(MANY) as threads:
        asked = [threads.submit(one.get, f"/{path}/{n}") for n in range(MANY // 3) for path in READS]
        until(lambda: bucket.held >= reading.EACH, "as many ask the bucket as may")
        try:
            job = sent(two)
            for path in ("/healthz", "/v1/workers", "/v1/jobs", f"/v1/jobs/{job['id']}", "/", "/gallery"):
                assert two.get(path).status_code == 200, path
            assert two.get("/readyz").text == "the bucket cannot be reached; try again later\n"
        finally:
            bucket.mend()
    told = [each.result() for each in asked]
    late = [one for one in told if one.status_code == 503]
    assert len(late) >= MANY - 2 * reading.EACH
    assert {one.headers["retry-after"] for one in late} == {"5"}
    assert {one.status_code for one in told} <= {404, 503}


def test_who_listens_is_told_and_goes_on(cut_off: tuple[Door, Proxy, Proxy]) -> None:
    door, redis, _ = cut_off
    one = door("one")
    with heard(one, "/v1/events") as events:
        job = sent(one)
        assert next(events)[2]["id"] == job["id"]
        redis.cut()
        assert next(kind for kind, _, _ in events if kind != "job") == "away"
        redis.mend()
        assert next(kind for kind, _, _ in events if kind != "job") == "back"
        one.delete(f"/v1/jobs/{job['id']}")
        assert next(events)[2]["state"] == "cancelled"
