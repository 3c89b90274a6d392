"""What is pruned, and what never is: anything that a job in Redis needs, or a manifest that stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from pixelkiln import NoSuchJobError, UsageError
from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.batches.prune import Plan, carry_out, plan
from pixelkiln.jobs.storage import objects
from pixelkiln.jobs.storage.bucket import Bucket
from tests.jobs.farms import new_client

LATER = timedelta(days=40)
MONTH = timedelta(days=30)


class Shelf:
    """A client of its own in the shared bucket."""

    def __init__(self, kiln: Kiln, bucket: Bucket, folder: Path) -> None:
        self.kiln, self.bucket, self.folder = kiln, bucket, folder
        self.client = new_client("prune")

    def reference(self, shade: int) -> str:
        path = self.folder / f"{shade}.png"
        Image.new("RGB", (64, 64), (shade, shade, shade)).save(path)
        return self.kiln.upload(path, self.client)

    def submit(self, name: str) -> str:
        """A job that refers to a picture; none is rendered here."""
        return self.kiln.submit(
            prompt="a fox",
            model="hidream-o1-dev",
            quantization="q6",
            references=[name],
            client=self.client,
        ).id

    def manifest(self, name: str, job_id: str, *references: str) -> str:
        key = keys.MANIFEST(self.client, name)
        entry = {"number": 1, "id": job_id, "identity": "f" * 64, "spec": {"references": references}}
        self.put(key, json.dumps({"name": name}) + "\n" + json.dumps(entry) + "\n")
        return key

    def picture(self, job_id: str) -> set[str]:
        both = {keys.PICTURE(self.client, job_id), keys.SIDECAR(self.client, job_id)}
        for key in both:
            self.put(key, "x")
        return both

    def put(self, key: str, text: str) -> str:
        self.bucket.put(key, text.encode(), "text/plain")
        return key

    def plan(self, *, after: timedelta = LATER, batch: str | None = None, pictures: bool = False) -> Plan:
        whose = None if batch is None else (self.client, batch)
        now = datetime.now(UTC) + after
        return plan(self.kiln.redis, self.bucket, MONTH, now=now, batch=whose, pictures=pictures)

    def doomed(self, found: Plan) -> list[str]:
        """This client's keys that would go, in their order."""
        return [one.key for _, one in found.doomed if f"/{self.client}/" in one.key]


@pytest.fixture
def shelf(kiln: Kiln, bucket: Bucket, tmp_path: Path) -> Shelf:
    return Shelf(kiln, bucket, tmp_path)


def test_a_reference_goes_that_nothing_names(shelf: Shelf) -> None:
    unused, waiting, cancelled, listed = (shelf.reference(shade) for shade in (1, 2, 3, 4))
    shelf.submit(waiting)
    shelf.kiln.cancel([shelf.submit(cancelled)], any_client=True)  # it may be tried again
    later = shelf.submit(shelf.reference(5))
    shelf.manifest("stays", later, listed)  # one of its jobs waits
    found = shelf.plan()
    assert shelf.doomed(found) == [keys.REFERENCE(shelf.client, unused)]
    kept = {one.key for one in found.needed}
    assert {keys.REFERENCE(shelf.client, name) for name in (waiting, cancelled, listed)} <= kept


def test_what_is_young_stays(shelf: Shelf) -> None:
    shelf.reference(1)
    shelf.manifest("young", "gone")
    assert shelf.doomed(shelf.plan(after=timedelta(days=29), pictures=True)) == []
    with pytest.raises(UsageError, match="1d or more"):
        plan(shelf.kiln.redis, shelf.bucket, timedelta(hours=23), now=datetime.now(UTC))


def test_pictures_go_where_it_was_said_and_their_sidecars_first(shelf: Shelf) -> None:
    shelf.picture("old")
    assert shelf.doomed(shelf.plan()) == []
    assert shelf.doomed(shelf.plan(pictures=True)) == [
        keys.SIDECAR(shelf.client, "old"),
        keys.PICTURE(shelf.client, "old"),
    ]


def test_pictures_of_a_job_that_waits_stay(shelf: Shelf) -> None:
    """As after Redis went back to before it had finished: its worker finds it stored."""
    waiting = shelf.submit(shelf.reference(1))
    shelf.picture(waiting)
    permit = shelf.put(keys.AGAIN(shelf.client, waiting), "execution")
    left = shelf.put(keys.AGAIN(shelf.client, "gone"), "execution")
    found = shelf.plan(pictures=True)
    assert shelf.doomed(found) == [left]
    assert permit in {one.key for one in found.needed}


def test_thumbnails_go_and_pictures_stay(shelf: Shelf) -> None:
    shelf.picture("old")
    small = shelf.put(keys.THUMBNAIL(shelf.client, "old", "0" * 16), "x")
    shelf.put(f"thumbnails/{shelf.client}/another's", "x")
    assert shelf.doomed(shelf.plan(after=timedelta(days=29))) == []
    assert shelf.doomed(shelf.plan()) == [small]
    shelf.manifest("night", "another")
    assert small not in shelf.doomed(shelf.plan(batch="night"))


def test_of_one_batch_only_what_is_its_own_goes(shelf: Shelf) -> None:
    mine, shared, other = (shelf.reference(shade) for shade in (1, 2, 3))
    manifest = shelf.manifest("night", "job-1", mine, shared)
    shelf.manifest("another", "job-2", shared, other)
    both = shelf.picture("job-1")
    shelf.picture("job-2")
    found = shelf.plan(batch="night", pictures=True)
    doomed = shelf.doomed(found)
    assert set(doomed) == {manifest, keys.REFERENCE(shelf.client, mine), *both}
    assert doomed[-1] == manifest
    shelf.kiln.redis.hset(keys.BATCH(shelf.client, "night"), "manifest", "packed")
    shelf.kiln.redis.zadd(keys.BATCHES(shelf.client), {"night": 1, "another": 2})
    gone = [one.key for one in carry_out(shelf.kiln.redis, shelf.bucket, found)]
    assert set(gone) == set(doomed)
    assert [key for key in doomed if shelf.bucket.head(key)] == []
    assert shelf.bucket.head(keys.REFERENCE(shelf.client, shared))
    assert not shelf.kiln.redis.exists(keys.BATCH(shelf.client, "night"))
    assert shelf.kiln.redis.zrange(keys.BATCHES(shelf.client), 0, -1) == [b"another"]
    with pytest.raises(NoSuchJobError, match="no batch night"):
        shelf.plan(batch="night")


def test_what_was_used_again_meanwhile_stays(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that finds its reference there, and submits, may be between the plan and the deletion."""
    shelf.manifest("night", "gone", name := shelf.reference(1))
    found = shelf.plan(batch="night")
    monkeypatch.setattr(objects, "FRESH", timedelta(seconds=-60))  # whatever lies there is old
    # S3's times are whole seconds: what the plan saw is made older, not the test longer.
    found.doomed = [
        (kind, type(one)(one.key, one.size, one.modified - timedelta(seconds=5)))
        for kind, one in found.doomed
    ]
    shelf.reference(1)
    assert list(carry_out(shelf.kiln.redis, shelf.bucket, found)) == []
    assert shelf.bucket.head(keys.REFERENCE(shelf.client, name))


def test_a_reference_that_is_used_again_is_stored_again_once_it_is_old(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts: list[str] = []
    put = shelf.bucket.put

    def noted(key: str, *rest: object, **named: object) -> bool:
        puts.append(key)
        return put(key, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(shelf.bucket, "put", noted)
    shelf.kiln._bucket = shelf.bucket
    shelf.reference(1)
    shelf.reference(1)
    assert len(puts) == 1
    monkeypatch.setattr(objects, "FRESH", timedelta(seconds=-60))
    shelf.reference(1)
    assert len(puts) == 2
