"""Looking at the farm again and again: what is told, what it costs, and what an outage leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.connection import Connection

from pixelkiln.jobs import Kiln, NotReadyError, Settings, keys
from pixelkiln.jobs.batches.forecast import Outlook
from pixelkiln.jobs.batches.manifest import Manifest
from pixelkiln.jobs.commands.live import sections
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.watching import ledgers
from pixelkiln.jobs.watching.ledgers import Ledgers
from pixelkiln.jobs.watching.watcher import STALE, Watcher

NOW = 1_795_694_400.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The commands that are sent within the block."""
    sent: list[str] = []
    send, pack = Connection.send_command, Connection.pack_commands

    def one(self: Connection, *arguments: Any, **named: Any) -> Any:
        sent.append(str(arguments[0]))
        return send(self, *arguments, **named)

    def many(self: Connection, commands: Any) -> Any:
        sent.extend(str(arguments[0]) for arguments in commands)
        return pack(self, commands)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "send_command", one)
        patch.setattr(Connection, "pack_commands", many)
        yield sent


def rows(number: int) -> list[Any]:
    return [{"prompt": f"fox {n}", "model": "demo"} for n in range(number)]


def end(kiln: Kiln, job_id: str, state: str, lane: str = "kiln:demo:bf16:normal:default") -> None:
    """Write what a worker writes at a job's end."""
    ended = {"status": state, "started_at": "2026-11-26T12:00:00Z", "ended_at": "2026-11-26T12:00:04Z"}
    kiln.redis.hset(keys.JOB(job_id), mapping=ended)
    kiln.redis.lrem(keys.QUEUE(lane), 0, job_id)
    kiln.redis.zadd((keys.FAILED if state == "failed" else keys.FINISHED)(lane), {job_id: NOW})


def at_work(kiln: Kiln, worker: str, *job_ids: str, beat: float | None = None) -> None:
    seconds, _ = kiln.redis.time()  # type: ignore[misc]
    record = {
        "kiln_state": f"rendering {job_ids[0]}" if job_ids else "idle",
        "queues": "demo:bf16",
        "kiln_beat": str(seconds if beat is None else seconds - beat),
        "kiln_memory": str(2**30),
        "kiln_used": str(2**29),
    }
    kiln.redis.sadd(keys.WORKERS, keys.WORKER(worker))
    kiln.redis.hset(keys.WORKER(worker), mapping=record)
    for job_id in job_ids:
        progress = '{"phase": "rendering", "step": 3, "steps": 9, "each": 1.25}'
        kiln.redis.sadd(keys.WORKER_EXECUTIONS(worker), f"{job_id}:{'0' * 32}")
        about = {"status": "started", "worker_name": worker, "meta": progress}
        kiln.redis.hset(keys.JOB(job_id), mapping=about)


def test_workers_batches_and_failures_are_told(kiln: Kiln) -> None:
    batch = kiln.batch(rows(4), name="night")
    end(kiln, batch.ids[0], "finished")
    end(kiln, batch.ids[1], "failed")
    at_work(kiln, "mini", batch.ids[2])
    at_work(kiln, "dead", batch.ids[3], beat=25.0)
    at_work(kiln, "liar", batch.ids[2])
    kiln.redis.hset(keys.JOB(batch.ids[2]), "worker_name", "mini")
    found = Watcher(kiln).look()
    (status,) = found.batches
    assert (status.name, status.total, status.finished, status.failed, status.started) == (
        "night",
        4,
        1,
        1,
        2,
    )
    assert (status.each, status.eta) == (4.0, 4.0)  # 2 to go, 2 workers live
    (job,) = found.held["mini"]
    assert (job.id, job.step, job.steps, job.each) == (batch.ids[2], 3, 9, 1.25)
    assert [one.id for one in found.held["dead"]] == [batch.ids[3]]
    assert found.held["liar"] == ()
    assert {one.name: (one.gone, one.used) for one in found.farm.workers}["dead"] == (True, 2**29)
    assert [one.id for one in found.failures] == [batch.ids[1]]
    assert str(found.places[batch.ids[1]]) == "night 2/4"
    assert found.prompts[batch.ids[2]] == "fox 2"
    assert found.unread == 0
    kiln.redis.delete(keys.WORKER_EXECUTIONS("dead"))  # another has it now
    assert str(Watcher(kiln).look().places[batch.ids[3]]) == "night 4/4"


def test_batches_that_are_added_changed_paused_or_forgotten_are_followed(kiln: Kiln) -> None:
    watcher = Watcher(kiln)
    assert watcher.look().batches == ()
    kiln.batch(rows(2), name="night")
    kiln.batch(rows(1), name="day")
    assert [(one.name, one.queued) for one in watcher.look().batches] == [("day", 1), ("night", 2)]
    batch = kiln.batch(rows(3), name="night")
    assert [one.total for one in watcher.look().batches] == [1, 3]
    batch.pause()
    assert [(one.paused, one.queued) for one in watcher.look().batches] == [(False, 1), (True, 3)]
    end(kiln, batch.ids[0], "failed")
    assert [one.failed for one in watcher.look().batches] == [0, 1]
    batch.retry_failed()
    assert [one.failed for one in watcher.look().batches] == [0, 0]
    kiln.redis.delete(keys.BATCH("default", "day"))
    assert [one.name for one in watcher.look().batches] == ["night"]
    kiln.redis.delete(*(keys.JOB(job_id) for job_id in batch.ids))
    for _ in range(3):
        found = watcher.look()
    assert found.batches == ()  # long forgotten: `kiln status night` asks the bucket


def test_a_deadline_is_told_as_a_worker_foresaw_it(kiln: Kiln) -> None:
    kiln.batch(rows(2), name="night", deadline=datetime.now(UTC) + timedelta(hours=1))
    watcher = Watcher(kiln, clock=Clock())
    assert watcher.look().batches[0].deadline is None  # no worker has looked
    foreseen = {"deadline": "2026-11-27T07:30:00+00:00", "fits": "no", "late": "5400", "outlook": "too late"}
    kiln.redis.hset(keys.BATCH("default", "night"), mapping=foreseen)
    found = watcher.look().batches[0]
    assert found.deadline == Outlook("2026-11-27T07:30:00+00:00", False, 5400.0, "too late")
    frame = "\n".join(one.plain for one in sections.batches(watcher.look(), 80, 10).lines(10))
    assert "late by 1 h 30 min" in frame
    kiln.redis.hset(keys.BATCH("default", "night"), mapping={"late": "soon", "deadline": "x"})
    assert watcher.look().batches[0].deadline is None


def test_what_strangers_wrote_stops_nothing(kiln: Kiln) -> None:
    kiln.batch(rows(1), name="night")
    kiln.queue.put_manifest("default", "junk", b"junk", 0)
    kiln.redis.zadd(keys.BATCHES("default"), {"text": NOW, b"\xff": NOW})
    kiln.redis.set(keys.BATCH("default", "text"), "no hash")
    kiln.redis.set(keys.WORKER_EXECUTIONS("mini"), "no set")
    at_work(kiln, "mini")
    watcher = Watcher(kiln, previews=4)
    for _ in range(2):
        found = watcher.look()
        assert [one.name for one in found.batches] == ["night"]
        assert (found.unread, found.held) == (0, {"mini": ()})


def test_a_large_batch_is_looked_through_bit_by_bit(kiln: Kiln, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "OPEN", 4)
    monkeypatch.setattr(ledgers, "ENDED", 1)
    batch = kiln.batch(rows(10), name="night")
    for job_id in batch.ids[:6]:
        end(kiln, job_id, "finished")
    watcher = Watcher(kiln)
    assert [(one.batches, one.unread) for one in (watcher.look(), watcher.look())] == [((), 1), ((), 1)]
    (status,) = watcher.look().batches
    assert (status.finished, status.queued) == (6, 4)
    end(kiln, batch.ids[9], "failed")
    assert watcher.look().batches[0].failed == 1  # what is open is all looked at each time
    kiln.retry([batch.ids[0]], again=False)
    kiln.redis.hset(keys.JOB(batch.ids[0]), "status", "failed")
    for _ in range(7):  # what has ended, one at a time
        last = watcher.look()
    assert last.batches[0].failed == 2


def test_an_outage_leaves_all_to_the_next_look(
    kiln: Kiln, settings: Settings, rewire: Callable[..., tuple[Settings, Any]]
) -> None:
    changed, proxy = rewire("redis")
    kiln.batch(rows(5), name="night")
    with Kiln(changed) as through:
        watched = Ledgers(through.queue, "default")
        farm = through.farm()
        standing = through.queue.standing
        try:
            through.queue.standing = lambda *asked: (proxy.cut(), standing(*asked))[1]  # type: ignore[method-assign]
            with pytest.raises(NotReadyError):
                watched.look(farm)
        finally:
            through.queue.standing = standing  # type: ignore[method-assign]
            proxy.mend()
        assert [one.queued for one in watched.look(farm)] == [5]


def test_failures_are_listed_anew_only_where_others_are_counted(
    kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    first, second = (kiln.submit(prompt="x", model="demo").id for _ in range(2))
    watcher = Watcher(kiln, clock=clock)
    listed: list[object] = []
    jobs = kiln.jobs

    def noted(**named: Any) -> Any:
        listed.append(named)
        return jobs(**named)

    monkeypatch.setattr(kiln, "jobs", noted)
    assert watcher.look().failures == ()
    assert listed == []
    end(kiln, first, "failed")
    assert [one.id for one in watcher.look().failures] == [first]
    watcher.look()
    assert len(listed) == 1
    end(kiln, second, "failed")
    assert len(watcher.look().failures) == 2
    kiln.retry([first])
    assert [one.id for one in watcher.look().failures] == [second]
    clock.now += STALE
    watcher.look()
    assert len(listed) == 4


def test_a_look_at_a_thousand_lanes_and_a_hundred_batches_costs_a_bounded_number_of_commands(
    kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(100):
        rendered = [
            (f"{n}-{m}", RenderSpec.parse({"prompt": "x", "model": "demo"}).with_seed(f"{n}"))
            for m in range(30)
        ]
        manifest = Manifest(f"night-{n:03}", "default", "2026-11-26T12:00:00Z").with_rows(rendered)
        kiln.queue.put_manifest("default", manifest.name, manifest.packed(), 0)
        kiln.queue.add(list(zip(manifest.ids, (spec for _, spec in rendered), strict=True)), None)
    with kiln.redis.pipeline(transaction=False) as pipe:
        for n in range(1_000):
            lane = f"kiln:demo:bf16:normal:c{n:04}"
            pipe.sadd(keys.QUEUES, keys.QUEUE(lane))
            pipe.rpush(keys.QUEUE(lane), *range(n % 7 + 1))
        pipe.execute()
    for n in range(30):
        failed = kiln.submit(prompt="x", model="demo").id
        end(kiln, failed, "failed")
        at_work(kiln, f"mini-{n:02}", kiln.submit(prompt="x", model="demo").id)
    watcher = Watcher(kiln)
    while (found := watcher.look()).unread:
        pass
    assert (len(found.batches), len(found.farm.lanes), len(found.failures)) == (100, 1_001, 20)
    with counted(monkeypatch) as sent:
        watcher.look()
    # Lanes 1 + 11, workers 3, batches 102, their jobs 2, and of 30 workers what they hold, 1 + 3 each.
    scans = sent.count("SSCAN")  # the names of lanes may come in one answer or in two
    assert scans - 30 in (2, 3)
    assert len(sent) - scans == 11 + 2 + 102 + 2 + 30 * 3
    assert sent.count("EVALSHA") == 11 + 1 + 2  # at most 100 lanes or workers, or 500 jobs, in a call
