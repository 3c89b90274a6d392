"""A job too large for one worker is left to larger ones."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.worker.queue.claims import Claims


def larger(kiln: Kiln, serves: str = "demo:bf16", memory: object = 100) -> None:
    """Register a worker that says it has so many bytes."""
    kiln.redis.hset("rq:worker:large", mapping={"queues": serves, "kiln_memory": str(memory)})
    kiln.redis.sadd("rq:workers", "rq:worker:large")


def test_a_job_too_large_is_left_to_a_larger_worker(
    make_claims: Callable[..., Claims], submit: Callable[..., str], kiln: Kiln
) -> None:
    small, large = make_claims("small"), make_claims("large")
    first, second = submit("first"), submit("second")
    larger(kiln)
    claim = small.take(["demo:bf16"], memory=50)
    assert claim is not None
    assert claim.job_id == first
    assert small.leave(claim, 100) == "back"
    assert small.leave(claim, 100) == "lost"  # asked again after a lost reply
    other = small.take(["demo:bf16"], memory=99)
    assert other is not None
    assert other.job_id == second  # the one behind it is not held up
    assert small.take(["demo:bf16"], memory=99) is None
    assert kiln.status(first).state == "queued"
    taken = large.take(["demo:bf16"], memory=100)
    assert taken is not None
    assert (taken.job_id, taken.attempt) == (first, 1)  # to be left is no attempt
    assert kiln.redis.llen(f"rq:queue:{claim.lane}") == 0


@pytest.mark.parametrize(
    ("serves", "memory"), [("demo:bf16", 99), ("demo:bf160,xdemo:bf16", 100), ("demo:bf16", "much"), ("", "")]
)
def test_where_no_worker_is_larger_the_job_stays_ours(
    claims: Claims, submit: Callable[..., str], kiln: Kiln, serves: str, memory: object
) -> None:
    submit()
    larger(kiln, serves, memory)
    claim = claims.take(["demo:bf16"], memory=50)
    assert claim is not None
    assert claims.leave(claim, 100) == "alone"
    assert claims.holds(claim)
    kiln.redis.delete("rq:workers")
    kiln.redis.set("rq:workers", "a stranger's")
    assert claims.leave(claim, 100) == "alone"


def test_what_was_left_is_looked_at_anew_in_time(
    claims: Claims, submit: Callable[..., str], kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit()
    larger(kiln)
    claim = claims.take(["demo:bf16"], memory=50)
    assert claim is not None
    monkeypatch.setattr("pixelkiln.worker.queue.claims.LEFT", 0)
    assert claims.leave(claim, 100) == "back"
    again = claims.take(["demo:bf16"], memory=50)
    assert again is not None
    assert again.job_id == job_id


def test_what_was_left_before_the_clock_was_set_back_is_looked_at_anew(
    claims: Claims, submit: Callable[..., str], kiln: Kiln
) -> None:
    """So is what a forged record leaves for longer than jobs are left, and what lies behind it."""
    first, second = submit(), submit()
    larger(kiln)
    for job_id in (first, second):
        claim = claims.take(["demo:bf16"], memory=50)
        assert claim is not None
        assert claims.leave(claim, 100) == "back"
        lane = kiln.status(job_id).lane
    ahead = time.time() + 6 * 3600
    kiln.redis.hset(keys.JOB(first), "kiln_needs", f"100 {ahead:.6f}")
    kiln.redis.zadd(keys.DUE, {lane: ahead})
    claims.look()
    found = {claim.job_id for _ in range(3) if (claim := claims.take(["demo:bf16"], memory=50))}
    assert first in found


def test_a_dead_worker_whose_record_outlives_it_is_left_nothing(
    claims: Claims, submit: Callable[..., str], kiln: Kiln
) -> None:
    """The clock was set back: a record that lasts a minute lasts for hours."""
    submit()
    larger(kiln)
    kiln.redis.expire("rq:worker:large", 6 * 3600)
    claim = claims.take(["demo:bf16"], memory=50)
    assert claim is not None
    assert claims.leave(claim, 100) == "alone"
    kiln.redis.expire("rq:worker:large", 60)  # it lives, and tells so
    assert claims.leave(claim, 100) == "back"


@pytest.mark.parametrize("forged", ["", "x", "-1 -1", "1e99 1e99", "9" * 400 + " 1", "100"])
def test_forged_needs_hold_nothing_up(
    claims: Claims, submit: Callable[..., str], kiln: Kiln, forged: str
) -> None:
    job_id = submit()
    kiln.redis.hset(f"rq:job:{job_id}", "kiln_needs", forged)
    claim = claims.take(["demo:bf16"], memory=50)
    assert claim is not None
    assert claim.job_id == job_id
