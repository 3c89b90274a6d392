"""The heartbeat keeps what is held, tells what is lost, and outlives an absence of Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from rq.worker import Worker

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.jobs.queue.connection import explain
from pixelkiln.worker.host.standstill import Standstill
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue import heartbeat as module
from pixelkiln.worker.queue.claim import Claim, Progress
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.heartbeat import Heartbeat
from tests.waiting import until
from tests.wire import Proxy

Make = Callable[..., Claims]
Rewire = Callable[..., tuple[Settings, Proxy]]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.05)
    monkeypatch.setattr(module, "PUBLISH", 0.01)
    monkeypatch.setattr(module, "GRACE", 0.0)


@pytest.fixture
def start(make_claims: Make) -> Iterator[Callable[..., Heartbeat]]:
    """A heartbeat that beats, on a connection of its own."""
    running: list[Heartbeat] = []

    def act(**where: Any) -> Heartbeat:
        about = {"queues": "demo:bf16", "version": "1"}
        running.append(Heartbeat(make_claims("worker-1", **where), about, Watchdog(900.0)))
        running[-1].start()
        return running[-1]

    yield act
    for heartbeat in running:
        heartbeat.stop()
        assert not heartbeat.is_alive()


@pytest.fixture
def claim(claims: Claims, submit: Callable[..., str]) -> Claim:
    submit()
    found = claims.take(["demo:bf16"])
    assert found is not None
    return found


def lease(kiln: Kiln, claim: Claim) -> float:
    return kiln.redis.zscore("kiln:leases", f"{claim.job_id}:{claim.execution}") or 0.0


def test_what_is_held_is_renewed(start: Callable[..., Heartbeat], kiln: Kiln, claim: Claim) -> None:
    heartbeat = start()
    heartbeat.hold(claim)
    for _ in range(3):
        before = lease(kiln, claim)
        until(lambda before=before: lease(kiln, claim) > before, "the lease is longer")
    heartbeat.drop(claim)
    assert heartbeat.held() == []


def test_progress_is_published(start: Callable[..., Heartbeat], kiln: Kiln, claim: Claim) -> None:
    heartbeat = start()
    heartbeat.hold(claim, Progress("loading"))
    until(lambda: kiln.status(claim.job_id).phase == "loading", "it loads")
    for step in (1, 2):
        heartbeat.report(claim, Progress("rendering", step, 28))
        until(lambda step=step: kiln.status(claim.job_id).step == step, "the step shows")
    assert kiln.status(claim.job_id).steps == 28


def test_a_cancelled_job_is_lost_until_it_is_dropped(
    start: Callable[..., Heartbeat], kiln: Kiln, claim: Claim
) -> None:
    heartbeat = start()
    heartbeat.hold(claim)
    assert not heartbeat.lost(claim)
    kiln.cancel([claim.job_id])
    until(lambda: heartbeat.lost(claim), "the loss is known")
    heartbeat.drop(claim)
    assert not heartbeat.lost(claim)


def test_the_worker_is_listed_by_rqs_own_tools_while_it_lives(
    start: Callable[..., Heartbeat], kiln: Kiln
) -> None:
    heartbeat = start()
    heartbeat.say("idle")
    (worker,) = until(lambda: Worker.all(connection=kiln.redis), "RQ lists it")
    assert worker.name == "worker-1"
    until(lambda: kiln.farm().workers[0].state == "idle", "it says what it does")
    assert kiln.farm().workers[0].serves == ("demo:bf16",)
    heartbeat.stop()
    assert kiln.farm().workers == ()
    assert kiln.redis.keys("rq:worker:worker-1*") == []


def test_a_dead_workers_job_comes_back(start: Callable[..., Heartbeat], kiln: Kiln, claim: Claim) -> None:
    kiln.redis.zadd("kiln:leases", {f"{claim.job_id}:{claim.execution}": 1})
    start()
    until(lambda: kiln.status(claim.job_id).state == "queued", "the job is back in its lane")


def test_redis_away_and_back(
    start: Callable[..., Heartbeat], rewire: Rewire, kiln: Kiln, claim: Claim
) -> None:
    settings, proxy = rewire("redis")
    heartbeat = start(where=settings)
    heartbeat.hold(claim, Progress("rendering", 1, 28))
    until(lambda: kiln.status(claim.job_id).step == 1, "the step shows")
    proxy.cut()
    until(lambda: heartbeat.away_since is not None, "it knows that Redis is away")
    heartbeat.report(claim, Progress("rendering", 2, 28))
    assert heartbeat.is_alive()
    assert not heartbeat.lost(claim)
    proxy.mend()
    until(lambda: kiln.status(claim.job_id).step == 2, "what was new in between is published")
    until(lambda: heartbeat.away_since is None, "it knows that Redis is back")
    assert not heartbeat.lost(claim)


def test_after_an_absence_the_others_may_renew_first(
    start: Callable[..., Heartbeat], rewire: Rewire, kiln: Kiln, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, proxy = rewire("redis")
    heartbeat = start(where=settings)
    until(lambda: kiln.farm().workers, "it beats")
    proxy.cut()
    until(lambda: heartbeat.away_since is not None, "it knows that Redis is away")
    monkeypatch.setattr(module, "GRACE", 3600.0)
    kiln.redis.zadd("kiln:leases", {f"{claim.job_id}:{claim.execution}": 1})
    proxy.mend()
    until(lambda: heartbeat.away_since is None, "it knows that Redis is back")
    seen = kiln.farm().workers[0].seen
    until(lambda: kiln.farm().workers[0].seen > seen, "it beats again")
    assert kiln.status(claim.job_id).state == "started"


def test_records_that_strangers_wrote_do_not_stop_it(start: Callable[..., Heartbeat], kiln: Kiln) -> None:
    kiln.redis.sadd("rq:queues", b"rq:queue:kiln:\xff", "rq:queue:kiln:a")
    kiln.redis.set("rq:ready:kiln:a", "text")
    heartbeat = start()
    until(lambda: heartbeat._beats > 41, "dependents were looked after twice")
    assert heartbeat.is_alive()
    assert heartbeat.away_since is None


def test_a_heartbeat_that_dies_says_so(start: Callable[..., Heartbeat], claim: Claim) -> None:
    heartbeat = start()
    heartbeat.hold(replace(claim, job_id="\udcff"))  # cannot be sent
    until(lambda: heartbeat.broken is not None, "the death is told")
    assert isinstance(heartbeat.broken, UnicodeEncodeError)


def test_bytes_that_strangers_left_do_not_kill_it(
    start: Callable[..., Heartbeat], kiln: Kiln, claim: Claim
) -> None:
    member = f"{claim.job_id}:{claim.execution}"
    kiln.redis.hset(keys.BLAME(claim.job_id), "crashes", 99)
    kiln.redis.hset(f"rq:execution:{member}", "worker_name", b"\xff")
    kiln.redis.zadd("kiln:leases", {member: 1})
    heartbeat = start()
    until(lambda: kiln.status(claim.job_id).state == "failed", "the job is quarantined")
    assert heartbeat.broken is None


def test_workers_that_wake_together_leave_each_other_their_jobs(
    make_claims: Make, kiln: Kiln, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two Macs slept the night: leases ran out, and monotonic time stood still. Who wakes first waits."""
    asleep = [0.0]
    now = time.time
    still = Standstill(time.monotonic, lambda: now() + asleep[0])
    heartbeat = Heartbeat(make_claims("worker-2"), {"queues": "demo:bf16"}, Watchdog(900.0), still)
    monkeypatch.setattr(module, "GRACE", 3600.0)
    heartbeat._reap_from = 0.0  # it has been up for long
    kiln.redis.zadd("kiln:leases", {f"{claim.job_id}:{claim.execution}": 1})
    asleep[0] = 8 * 3600.0
    heartbeat._beat(full=True)
    assert kiln.status(claim.job_id).state == "started"  # worker-1 can still renew it
    assert kiln.redis.hget(keys.BLAME(claim.job_id), "lapses") is None
    heartbeat._reap_from = 0.0  # the grace is over, and worker-1 did not wake
    heartbeat._beat(full=True)
    assert kiln.status(claim.job_id).state == "queued"


def test_why_redis_is_away_is_logged_with_its_mend(
    make_claims: Make, rewire: Rewire, caplog: pytest.LogCaptureFixture
) -> None:
    """A password that was changed, say: the worker goes on, and its log tells what to do."""
    settings, proxy = rewire("redis")
    heartbeat = Heartbeat(
        make_claims("worker-1", where=settings), {}, Watchdog(900.0), explain=partial(explain, settings)
    )
    proxy.cut()
    heartbeat.start()
    until(lambda: heartbeat.away_since is not None, "it knows that Redis is away")
    until(lambda: [one for one in caplog.messages if "Redis is away" in one], "it says so")
    proxy.mend()
    heartbeat.stop()
    (told,) = [one for one in caplog.messages if "Redis is away" in one]
    assert "is unreachable: it closes the connection without an answer; see its log" in told
