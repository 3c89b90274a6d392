"""What a client shows the server of another's jobs: it may write its own manifests, and any list in Redis."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from zipfile import ZipFile

import httpx
import pytest

from pixelkiln import Kiln, Settings
from pixelkiln.jobs import keys
from pixelkiln.jobs.batches.manifest import Entry, Manifest
from pixelkiln.jobs.queue.status import JobStatus
from tests.jobs.web.conftest import Door
from tests.jobs.web.page.rendering import render
from tests.jobs.web.test_events import heard

SECRET = "what one alone shall read"
FOX = {"prompt": SECRET, "model": "demo", "width": 64, "height": 64}
LANE = "kiln:demo:bf16:normal:{}"
ASKED = ("/v1/jobs", "/gallery", "/gallery.zip", "/")
ABOUT = ("/v1/batches/evil", "/v1/batches/evil/report", "/batches/evil", "/batches", *ASKED)


@pytest.fixture
def kiln(settings: Settings) -> Kiln:
    return Kiln(settings).as_client("one")


@pytest.fixture
def ones(kiln: Kiln) -> dict[str, JobStatus]:
    """One that has finished, and one that waits."""
    done = kiln.submit(FOX)  # type: ignore[arg-type]
    render(kiln)
    waiting = kiln.submit(FOX, not_before=timedelta(hours=1))  # type: ignore[arg-type]
    found = {one.id: kiln.status(one.id) for one in (done, waiting)}
    assert [one.state for one in found.values()] == ["finished", "queued"]
    return found


def told(client: httpx.Client, path: str, **asked: str) -> str:
    """All that an answer says; of a zip its names and records."""
    answer = client.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    if not path.endswith(".zip"):
        return answer.text
    archive = ZipFile(io.BytesIO(answer.content))
    return "\n".join(
        [*archive.namelist(), *(archive.read(one).decode("latin-1") for one in archive.namelist())]
    )


def evil(kiln: Kiln, client: str, ids: list[str]) -> None:
    """A batch in two's folder of the bucket that names one's jobs, and says that it is `client`'s."""
    kiln.bucket.put(keys.MANIFEST("two", "evil"), naming(client, ids).written(), "application/jsonl")


def naming(client: str, ids: list[str]) -> Manifest:
    """A manifest that names these jobs."""
    spec = {**FOX, "prompt": "two's own words", "client": client}
    entries = tuple(Entry(n, job_id, str(n), spec) for n, job_id in enumerate(ids, 1))
    return Manifest("evil", client, "2026-11-26T00:00:00+00:00", entries=entries)


def test_no_batch_is_under_way_by_jobs_that_are_not_its_clients(
    real: Door, kiln: Kiln, ones: dict[str, JobStatus]
) -> None:
    kiln.as_client("two").books.change("evil", lambda there: naming("two", [*ones]))
    assert "evil" in told(real("two"), "/batches")
    assert "evil" not in told(real("two"), "/")


@pytest.mark.parametrize("client", ["two", "one"])
def test_a_batch_shows_nothing_of_jobs_that_are_not_its_clients(
    real: Door, kiln: Kiln, ones: dict[str, JobStatus], client: str
) -> None:
    evil(kiln, client, [*ones])
    two = real("two")
    for path in ABOUT:
        assert SECRET not in told(two, path, **{"batch": "evil"} if path in ASKED[:3] else {}), path
    assert told(two, "/gallery.zip", batch="evil") == ""
    assert json.loads(told(two, "/v1/jobs", batch="evil"))["jobs"] == []
    status = json.loads(told(two, "/v1/batches/evil"))
    assert (status["client"], status["missing"], status["total"]) == ("two", 2, 2)
    report = json.loads(told(two, "/v1/batches/evil/report", format="json"))
    assert (report["redis"], report["bucket"]) == ({"unknown": 2}, 0)


@pytest.mark.parametrize("client", ["two", "one"])
def test_a_batch_does_nothing_to_jobs_that_are_not_its_clients(
    real: Door, kiln: Kiln, ones: dict[str, JobStatus], client: str
) -> None:
    evil(kiln, client, [*ones])
    for verb in ("pause", "prioritize", "resume", "retry", "cancel"):
        asked = {"priority": "low"} if verb == "prioritize" else {}
        answer = real("two").post(f"/v1/batches/evil/{verb}", params=asked)
        assert (answer.status_code, answer.json()["jobs"]) == (200, 0), verb
    assert kiln.statuses([*ones]) == ones


def test_a_job_listed_in_anothers_lane_is_not_that_clients(
    real: Door, kiln: Kiln, ones: dict[str, JobStatus]
) -> None:
    done, waiting = ones
    kiln.redis.sadd(keys.QUEUES, keys.QUEUE(LANE.format("two")))
    kiln.redis.zadd(keys.FINISHED(LANE.format("two")), {done: 2e9})
    kiln.redis.rpush(keys.QUEUE(LANE.format("two")), waiting)
    two = real("two")
    for path in ASKED:
        text = told(two, path)
        assert [one for one in (SECRET, *ones) if one in text] == [], path
    with heard(two, "/v1/events") as events:
        mine = two.post("/v1/jobs", json={**FOX, "prompt": "two's own words"}).json()
        assert next(events)[2]["id"] == mine["id"]
    assert done in told(real("one"), "/v1/jobs")


def test_a_record_moved_into_anothers_lane_tells_neither_picture_nor_words(
    real: Door, kiln: Kiln, ones: dict[str, JobStatus]
) -> None:
    done, _ = ones
    kiln.redis.hset(keys.JOB(done), "origin", LANE.format("two"))
    kiln.redis.sadd(keys.QUEUES, keys.QUEUE(LANE.format("two")))
    kiln.redis.zadd(keys.FINISHED(LANE.format("two")), {done: 2e9})
    two = real("two")
    for path in ("/v1/jobs", f"/v1/jobs/{done}", f"/pictures/{done}", "/gallery", "/gallery.zip"):
        assert SECRET not in told(two, path), path
    for path in (f"/v1/jobs/{done}/image", f"/v1/jobs/{done}/sidecar", f"/thumbnails/{done}"):
        assert two.get(path).status_code == 502, path
