"""What a producer may count on of batches, of the real farm and of the one in memory alike."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from pixelkiln import Kiln, NoSuchJobError, NotReadyError, SpecError, UsageError
from pixelkiln.jobs import keys
from pixelkiln.jobs.batches.manifest import Entry, Manifest
from pixelkiln.testing import FakeKiln
from tests.jobs.farms import door, farm, kiln, new_client, other, resting

__all__ = ["door", "farm", "kiln", "other", "resting"]


def small(prompt: str = "a fox", **fields: Any) -> Any:
    return {"prompt": prompt, "model": "demo", "width": 64, "height": 64, **fields}


def rows(number: int) -> list[Any]:
    return [small(f"fox {n}") for n in range(1, number + 1)]


def fail_one(kiln: Kiln) -> Any:
    """A row whose job fails: on the real farm it is too large for the worker, in memory it is told to."""
    if isinstance(kiln, FakeKiln):
        kiln.next_fails("the picture is beyond KILN_MEMORY")
    return small("too large", width=2048, height=2048)


def test_a_batch_is_found_by_its_name_and_its_pictures_have_names(kiln: Kiln, tmp_path: Path) -> None:
    batch = kiln.batch(rows(3), name="night", source="foxes.txt")
    assert (batch.sent.new, batch.sent.again, batch.sent.there) == (3, 0, 0)
    found = kiln.open_batch("night")
    assert found.ids == batch.ids == [job.id for job in batch.sent.jobs]
    assert [one.name for one in kiln.batches()] == ["night"]
    assert [status.state for status in found.wait()] == ["finished"] * 3
    status = found.status()
    assert (status.total, status.finished, status.open, status.eta, status.source) == (
        3,
        3,
        0,
        0,
        "foxes.txt",
    )
    assert status.each is not None
    came: list[str] = []
    fetched = found.fetch(tmp_path, came=lambda job_id, path: came.append(job_id))
    assert (came, fetched.faults) == (found.ids, {})
    names = [path.name for path in fetched.paths.values()]
    assert all(re.fullmatch(rf"000{n}-fox-{n}-\d+\.png", name) for n, name in enumerate(names, 1))
    link = kiln.link(found.ids[0])
    if not isinstance(kiln, FakeKiln):
        with urlopen(link) as answer:
            assert answer.read() == fetched.paths[found.ids[0]].read_bytes()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    fetched.paths[found.ids[1]].write_bytes(b"half")
    assert found.fetch(tmp_path).paths == fetched.paths
    changed = {path for path in tmp_path.iterdir() if before.get(path) != path.stat().st_mtime_ns}
    assert fetched.paths[found.ids[0]] not in changed
    assert fetched.paths[found.ids[1]].read_bytes()[:4] == b"\x89PNG"
    index = list(csv.DictReader((tmp_path / "index.csv").read_text("utf-8-sig").splitlines()))
    assert [(row["file"], row["id"], row["state"]) for row in index] == [
        (name, job_id, "finished") for name, job_id in zip(names, found.ids, strict=True)
    ]
    short = found.fetch(tmp_path / "short", names="{model}-{n}")
    assert [path.name for path in short.paths.values()] == [f"demo-{n}.png" for n in (1, 2, 3)]


def test_the_same_rows_again_are_the_same_jobs(
    kiln: Kiln, other: Kiln, resting: Callable[[], object]
) -> None:
    first = kiln.batch(rows(4), name="night")
    same = kiln.batch([*rows(4), small("a hare")], name="night")
    assert (same.sent.new, same.sent.there) == (1, 4)
    assert [job.created for job in same.sent.jobs] == [False] * 4 + [True]
    assert same.ids[:4] == first.ids
    less = kiln.batch(rows(2), name="night")
    assert [entry.prompt for entry in less.sent.unlisted] == ["fox 3", "fox 4", "a hare"]
    assert less.status().unlisted == 3
    assert less.status().queued == 5
    theirs = other.batch(rows(1), name="night")
    assert theirs.sent.new == 1
    assert theirs.ids[0] not in first.ids
    unrelated = kiln.batch([small("a cat")], name="night")
    assert (unrelated.sent.new, len(unrelated.entries), unrelated.entries[-1].number) == (1, 6, 6)
    assert kiln.open_batch("night").cancel() == dict.fromkeys(unrelated.ids, "queued")
    assert other.open_batch("night").status().cancelled == 0
    other.open_batch("night").cancel()


def test_what_failed_or_was_cancelled_is_tried_again(kiln: Kiln, resting: Callable[[], object]) -> None:
    bad, *good = fail_one(kiln), *rows(3)
    batch = kiln.batch([bad, *good], name="night")
    kiln.cancel([batch.ids[1]])
    resting()
    assert [one.state for one in batch.wait()] == ["failed", "cancelled", "finished", "finished"]
    assert [one.id for one in batch.status().failures] == batch.ids[:1]
    again = kiln.batch([bad, *good], name="night")
    assert (again.sent.new, again.sent.again, again.sent.there) == (0, 2, 2)
    states = [one.state for one in again.wait()]
    assert states == ["finished" if isinstance(kiln, FakeKiln) else "failed", *["finished"] * 3]
    if not isinstance(kiln, FakeKiln):
        assert batch.retry_failed() == {batch.ids[0]: "again"}
        (tried,) = kiln.wait([batch.ids[0]])
        assert tried.attempt == 3
        assert kiln.sidecar(batch.ids[1]).job.attempt == 1  # it was cancelled before anybody took it
    assert kiln.retry([batch.ids[2], "none"]) == {batch.ids[2]: "finished", "none": "unknown"}


def test_a_finished_picture_is_replaced_only_where_that_is_asked_for(kiln: Kiln) -> None:
    job = kiln.submit(small(), id=new_client("id"))
    kiln.wait([job.id])
    first = kiln.sidecar(job.id)
    assert kiln.retry([job.id]) == {job.id: "finished"}
    assert kiln.retry([job.id], again=True) == {job.id: "again"}
    (status,) = kiln.wait([job.id])
    second = kiln.sidecar(job.id)
    assert (status.state, status.attempt, second.job.attempt) == ("finished", 2, 2)
    assert second.job.execution != first.job.execution
    assert second.spec == first.spec
    kiln.queue.retry([job.id], kiln.settings.client, again=True)  # by somebody without the right to replace
    (status,) = kiln.wait([job.id])
    assert status.state == "finished"
    assert kiln.sidecar(job.id) == second


def test_a_client_that_died_half_way_is_completed(
    kiln: Kiln, resting: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    add, calls = kiln.queue.add, []

    def some(jobs: Any, *more: Any, **named: Any) -> Any:
        calls.append(add(jobs[:2], *more, **named))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(kiln.queue), "add", lambda self, *more, **named: some(*more, **named))
        with pytest.raises(KeyboardInterrupt):
            kiln.batch(rows(5), name="night")
    batch = kiln.open_batch("night")
    assert (batch.status().queued, batch.status().missing) == (2, 3)
    assert batch.retry() == dict.fromkeys(batch.ids[2:], "again")
    assert batch.status().queued == 5
    assert kiln.batch(rows(5), name="night").sent.there == 5
    batch.cancel()


def test_a_paused_batch_waits_and_others_go_on(kiln: Kiln) -> None:
    target = f"client:{kiln.settings.client}"
    kiln.pause(target)
    night, day = kiln.batch(rows(2), name="night"), kiln.batch(rows(2), name="day")
    assert night.pause() == 2
    assert night.status().paused
    kiln.resume(target)
    assert [one.state for one in day.wait()] == ["finished", "finished"]
    assert kiln.status(night.ids[0]).held
    (lane,) = [one for one in kiln.farm().lanes if one.lane.endswith(f":{kiln.settings.client}")]
    assert (lane.queued, lane.finished) == (2, 2)
    more = kiln.batch(rows(3), name="night")
    assert (more.sent.new, more.status().queued, kiln.status(more.ids[2]).held) == (1, 3, True)
    assert more.resume() == 3
    assert [one.state for one in more.wait()] == ["finished"] * 3


def test_priority_moves_what_waits(kiln: Kiln, resting: Callable[[], object]) -> None:
    batch = kiln.batch(rows(2), name="night")
    batch.pause()
    assert batch.prioritize("high") == 2
    assert batch.resume() == 2
    assert batch.prioritize("low") == 2
    lanes = {status.lane for status in kiln.statuses(batch.ids).values() if status}
    assert lanes == {f"kiln:demo:bf16:low:{kiln.settings.client}"}
    assert {entry.spec.priority for entry in kiln.open_batch("night").entries} == {"low"}
    resting()
    assert [one.state for one in batch.wait()] == ["finished"] * 2
    assert kiln.sidecar(batch.ids[0]).spec.priority == "low"
    assert kiln.batch(rows(2), name="night").sent.there == 2


def test_equal_rows_are_kept_and_told_apart(kiln: Kiln, resting: Callable[[], object]) -> None:
    batch = kiln.batch([small(), small(), small("a hare"), small(labels={"of": "the third"})], name="night")
    assert len(set(batch.ids)) == 4
    assert len({entry.spec.seed for entry in batch.entries}) == 4
    assert kiln.batch([small()] * 3, name="night").sent.there == 3
    batch.cancel()


def test_jobs_are_listed_the_newest_first(kiln: Kiln, other: Kiln, resting: Callable[[], object]) -> None:
    ids = [kiln.submit(small(f"fox {n}")).id for n in range(4)]
    theirs = other.submit(small()).id
    other.wait([theirs])
    kiln.cancel([ids[0]])
    assert [job.id for job in kiln.jobs()] == [ids[0], *reversed(ids[1:])]
    assert [job.id for job in kiln.jobs(limit=2)] == [ids[0], ids[3]]
    assert [job.id for job in kiln.jobs(state="cancelled")] == ids[:1]
    assert [job.id for job in kiln.jobs(client=other.settings.client)] == [theirs]
    assert theirs in [job.id for job in kiln.jobs(client=None)]
    kiln.cancel(ids)


def test_what_no_batch_can_be(kiln: Kiln) -> None:
    for name in ("", "a:b", "x" * 65, "../up", "é"):
        with pytest.raises(UsageError, match="batch name: must be 1 to 64"):
            kiln.batch(rows(1), name=name)
    with pytest.raises(UsageError, match="a picture, at least"):
        kiln.batch([], name="night")
    with pytest.raises(SpecError, match="client: a batch is one client's") as error:
        kiln.batch([small(), small(client="strange")], name="night")
    assert error.value.place == 1
    with pytest.raises(SpecError, match="width"):
        kiln.batch([small(), small(width=3)], name="night")
    with pytest.raises(NoSuchJobError, match="no batch night of client"):
        kiln.open_batch("night")
    assert kiln.batches() == []


def test_what_redis_forgot_is_known_by_the_bucket(kiln: Kiln, tmp_path: Path) -> None:
    batch = kiln.batch(rows(2), name="night")
    batch.wait()
    _forget(kiln, batch.ids)
    found = kiln.open_batch("night")
    assert (found.ids, found.status().finished) == (batch.ids, 2)
    assert len(found.fetch(tmp_path).paths) == 2
    same = kiln.batch(rows(3), name="night")
    assert (same.sent.new, same.sent.there) == (1, 2)
    assert [one.state for one in same.wait()] == ["finished"] * 3


def test_where_the_bucket_is_away_the_next_change_stores_the_manifest(
    kiln: Kiln, resting: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = keys.MANIFEST(kiln.settings.client, "night")

    def away(*arguments: Any, **named: Any) -> Any:
        raise NotReadyError("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(kiln.bucket, "put", away)
        patch.setattr(kiln.bucket, "get", away)
        batch = kiln.batch(rows(2), name="night")
        assert batch.manifest.options["unstored"] == "the bucket is away"
    assert kiln.bucket.get(where) is None
    batch.pause()
    stored = kiln.bucket.get(where)
    assert stored is not None
    assert stored.count(b"\n") == 3
    assert "unstored" not in kiln.open_batch("night").manifest.options
    batch.cancel()


@pytest.mark.parametrize("whose", ["mine", "other"])
def test_jobs_of_another_client_are_unknown_whatever_a_manifest_names(
    kiln: Kiln, other: Kiln, tmp_path: Path, whose: str
) -> None:
    theirs = other.batch(rows(1), name="night")
    theirs.wait()
    later = other.submit(small("later"), not_before=timedelta(hours=1)).id
    before = other.statuses([*theirs.ids, later])
    client = (kiln if whose == "mine" else other).settings.client
    entries = tuple(
        Entry(n, job_id, f"{n}", {**small(), "client": client}) for n, job_id in enumerate(before, 1)
    )
    manifest = Manifest("evil", client, "2026-11-26T00:00:00+00:00", entries=entries)
    kiln.bucket.put(keys.MANIFEST(kiln.settings.client, "evil"), manifest.written(), "application/jsonl")
    batch = kiln.open_batch("evil")
    assert [*batch.standing().values()] == [None, None]
    assert (batch.status().missing, batch.status().client) == (2, kiln.settings.client)
    assert (batch.jobs(), batch.sent_ids(), batch.fetch(tmp_path).paths) == ([], [], {})
    with pytest.raises(NoSuchJobError):
        batch.fetch_one(batch.ids[0], tmp_path)
    facts = batch.report(tmp_path / "report.html")
    assert (facts.redis, facts.bucket) == ({"unknown": 2}, 0)
    assert (batch.cancel(), batch.retry_failed(), batch.retry(again=True)) == ({}, {}, {})
    assert (batch.pause(), batch.prioritize("low"), batch.resume()) == (0, 0, 0)
    assert other.statuses([*before]) == before


def _forget(kiln: Kiln, ids: list[str]) -> None:
    """Redis, or what stands for it, knows the jobs and their batch no more."""
    if isinstance(kiln, FakeKiln):
        for job_id in ids:
            del kiln._farm._jobs[job_id]
        kiln._farm._manifests.clear()
    else:
        kiln.redis.delete(*map(keys.JOB, ids), keys.BATCH(kiln.settings.client, "night"))


def test_the_examples_of_the_docs_run() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "batches.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", docs, re.DOTALL | re.MULTILINE)
    assert examples
    for example in examples:
        exec(example, {})


def test_a_deadline_is_foreseen_kept_and_replaced(kiln: Kiln) -> None:
    rows = [{"prompt": f"fox {n}", "model": "demo", "width": 64, "height": 64} for n in range(2)]
    day = timedelta(days=1)
    batch = kiln.batch(rows, name="night", deadline=day)  # type: ignore[arg-type]
    batch.wait()
    foreseen = batch.outlook()
    assert foreseen is not None
    assert (foreseen.fits, foreseen.late) == (True, 0.0)
    assert "before the deadline" in foreseen.told
    later = datetime.now(UTC) + 2 * day
    assert kiln.batch(rows, name="night", deadline=later).sent.there == 2  # type: ignore[arg-type]
    told = kiln.open_batch("night").status().deadline
    assert told is not None
    assert datetime.fromisoformat(told.deadline) == later.replace(microsecond=0)
    with pytest.raises(UsageError, match=r"deadline: .* is over; name one that is to come"):
        kiln.batch(rows, name="night", deadline=datetime(2020, 1, 1))  # type: ignore[arg-type]
    assert kiln.batch(rows, name="without").outlook() is None  # type: ignore[arg-type]
