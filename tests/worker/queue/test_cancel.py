"""What `kiln cancel` leaves of a job, and what its client pays."""

from __future__ import annotations

import time

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.queue.door import CHUNK
from pixelkiln.worker.queue.claim import Claim, Progress
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.farm import DEMO, LANE, Make, Submit, charged, expire, took, traces
from tests.worker.queue.test_leave import larger


def held_for(kiln: Kiln, claim: Claim, seconds: float) -> None:
    """As if it had been taken that long ago."""
    kiln.redis.hset(keys.ACCOUNT(claim.job_id, claim.execution), "taken", time.time() - seconds)


@pytest.mark.parametrize("by", ["kiln", "RQ"])
@pytest.mark.parametrize("teller", ["its worker", "the reaper"])
@pytest.mark.parametrize(("seconds", "paid"), [(12.0, 12.0), (0.0, 0.0), (4000.0, 30.0)])
def test_a_cancelled_job_costs_the_time_it_took(
    make_claims: Make, submit: Submit, kiln: Kiln, by: str, teller: str, seconds: float, paid: float
) -> None:
    claims, other = make_claims("worker-1"), make_claims("worker-2")
    job_id = submit()
    claim = took(claims)
    assert charged(kiln) == 30.0
    held_for(kiln, claim, seconds)
    if by == "kiln":
        assert kiln.cancel([job_id]) == {job_id: "started"}
    else:
        kiln.redis.hset(keys.JOB(job_id), "status", "canceled")
    assert not claims.holds(claim)
    for _ in range(2):  # told again, nothing is paid back twice
        if teller == "its worker":
            assert claims.renew([(claim, None)]) == {claim.execution}
        else:
            expire(kiln, claim)
            other.reap()
        assert charged(kiln) == pytest.approx(paid, abs=1.0)
    assert traces(kiln, claim) in ([], [keys.TAKEN(claim.execution)])


@pytest.mark.parametrize("teller", ["its worker", "the reaper"])
def test_a_job_cancelled_in_hand_over_costs_what_went_into_its_picture(
    make_claims: Make, submit: Submit, kiln: Kiln, teller: str
) -> None:
    claims, other = make_claims("worker-1"), make_claims("worker-2")
    submit()
    claim = took(claims)
    claims.take(DEMO, handed=[(claim, Progress("delivering", cost=12.0))])
    held_for(kiln, claim, 4000.0)
    kiln.cancel([claim.job_id])
    if teller == "its worker":
        claims.renew([(claim, None)])
    else:
        expire(kiln, claim)
        other.reap()
    assert charged(kiln) == 12.0


def test_a_job_that_was_cancelled_and_runs_again_costs_what_it_takes_then(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    job_id = submit()
    first = took(claims)
    kiln.cancel([job_id])
    claims.renew([(first, None)])
    kiln.redis.hset(keys.JOB(job_id), "status", "queued")  # as RQ requeues
    kiln.redis.rpush(keys.QUEUE(first.lane), job_id)
    second = took(claims)
    before = charged(kiln)
    assert claims.release(second)
    assert charged(kiln) == pytest.approx(before - 30.0)


@pytest.mark.parametrize("how", ["id", "client:default", "model:demo", "farm", "rq"])
def test_a_job_that_was_left_is_cancelled(claims: Claims, submit: Submit, kiln: Kiln, how: str) -> None:
    job_id = submit()
    larger(kiln)
    claim = took(claims)
    assert claims.leave(claim, 50) == "back"
    (lane,) = [one for one in kiln.farm().lanes if one.queued]
    assert lane.lane == kiln.status(job_id).lane == "kiln:demo:bf16>54:normal:default"
    assert kiln.status(job_id).state == "queued"
    if how == "id":
        assert kiln.cancel([job_id]) == {job_id: "queued"}
    elif how == "rq":
        Job.fetch(job_id, connection=kiln.redis, serializer=JSONSerializer).cancel()
    else:
        assert kiln.cancel_all(Target.parse(how)) == {job_id: "queued"}
    assert kiln.status(job_id).state == "cancelled"
    assert claims.take(DEMO) is None
    assert kiln.redis.zscore(f"rq:canceled:{kiln.status(job_id).lane}", job_id) is not None
    assert [one for one in kiln.farm().lanes if one.queued] == []


def test_what_rq_cancelled_stays_listed_while_it_is_remembered(submit: Submit, kiln: Kiln) -> None:
    """RQ's entries are due at once and for good, ours when Redis forgets the job: only its record tells."""
    theirs, ours, gone = submit(), submit(), submit()
    for job_id in (theirs, gone):
        Job.fetch(job_id, connection=kiln.redis, serializer=JSONSerializer).cancel()
    kiln.redis.delete(keys.JOB(gone))
    kiln.redis.zadd(keys.CANCELED(LANE), {ours: 1, "expired": 1})  # as of long ago
    kiln.cancel([ours])
    for _ in range(3):
        kiln.cancel([submit()])
    listed = {one.decode() for one in kiln.redis.zrange(keys.CANCELED(LANE), 0, -1)}
    assert {theirs, ours} <= listed
    assert not {gone, "expired"} & listed


def test_behind_a_cancelled_job_an_older_one_comes_to_its_turn(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    first, older, other = submit("first"), submit("older"), submit("other", client="other")
    kiln.redis.hset(keys.JOB(older), "enqueued_at", "2020-01-01T00:00:00.000000Z")
    kiln.redis.hset(keys.JOB(other), "enqueued_at", "2021-01-01T00:00:00.000000Z")
    assert claims.take(DEMO, without=["default", "other"]) is None  # all are indexed
    kiln.cancel([first])
    assert took(claims).job_id == older


def test_a_whole_lane_is_cancelled_from_its_front_and_told_to_takes_once_a_call(
    claims: Claims, kiln: Kiln
) -> None:
    ids = [job.id for job in kiln.submit_many([{"prompt": "x", "model": "demo"}] * (3 * CHUNK))]
    kiln.redis.delete(keys.MAIL)
    assert list(kiln.cancel_all("farm")) == ids
    assert kiln.redis.llen(keys.QUEUE(LANE)) == 0
    assert kiln.redis.llen(keys.MAIL) == 3
    assert claims.take(DEMO) is None
