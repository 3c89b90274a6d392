"""Jobs that wait for a time, or beneath a limit: in their lanes when it is there, whoever enqueued them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rq import Queue
from rq.rate_limit import RateLimit
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, RenderSpec, keys
from pixelkiln.jobs.batches.windows import Windows
from pixelkiln.jobs.queue.record import FUNCTION
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.farm import DEMO, LANE, RESULT, Submit, ends, taken, took

SPEC = {"prompt": "x", "model": "demo", "width": 64, "height": 64}
TOMORROW = datetime(2090, 1, 1, 22, tzinfo=UTC)


def spec(**fields: Any) -> RenderSpec:
    return RenderSpec.parse({**SPEC, **fields})


def queue(kiln: Kiln, lane: str = LANE) -> Queue:
    return Queue(lane, connection=kiln.redis, serializer=JSONSerializer)


def come(kiln: Kiln, *job_ids: str, lane: str = LANE) -> None:
    """Let the time of jobs come, in this order."""
    kiln.redis.zadd(keys.SCHEDULED(lane), {one: 1 + n for n, one in enumerate(job_ids)})


def test_a_job_is_not_taken_before_its_time(kiln: Kiln, claims: Claims) -> None:
    job = kiln.submit(spec(), not_before=TOMORROW)
    assert queue(kiln).scheduled_job_registry.get_job_ids() == [job.id]  # where RQ's tools show it
    assert taken(claims) is None
    status = kiln.status(job.id)
    assert (status.state, status.not_before) == ("queued", "2090-01-01T22:00:00Z")
    assert [lane.later for lane in kiln.farm().lanes] == [1]
    come(kiln, job.id)
    claims.look(due=True)
    assert (kiln.status(job.id).not_before, kiln.farm().lanes[0].later) == ("", 0)
    claim = took(claims)
    assert claim.job_id == job.id
    assert claims.finish(claim, RESULT, 1.0)
    assert ends(kiln, job.id) == ["result 0", "finished"]


def test_a_time_that_has_come_is_now_and_a_span_goes_by_the_servers_clock(kiln: Kiln, claims: Claims) -> None:
    past = kiln.submit(spec(), not_before=datetime(2020, 1, 1))
    assert taken(claims) == past.id
    ahead = kiln.submit(spec(), not_before=timedelta(hours=3))
    seconds, _ = kiln.redis.time()  # type: ignore[misc]
    score: Any = kiln.redis.zscore(keys.SCHEDULED(LANE), ahead.id)
    assert score == pytest.approx(seconds + 3 * 3600, abs=60)


def test_jobs_of_one_time_come_in_their_order(kiln: Kiln, claims: Claims) -> None:
    jobs = kiln.submit_many([spec(seed=n) for n in range(120)], not_before=TOMORROW)
    assert queue(kiln).scheduled_job_registry.get_job_ids() == [job.id for job in jobs]


def test_the_same_id_again_is_the_same_job_and_keeps_its_time(kiln: Kiln, claims: Claims) -> None:
    job = kiln.submit(spec(), id="one", not_before=TOMORROW)
    assert not kiln.submit(spec(seed=job.spec.seed), id="one").created
    assert taken(claims) is None


def test_what_is_due_is_bounded_in_one_look_and_comes_all_the_same(kiln: Kiln, claims: Claims) -> None:
    jobs = [job.id for job in kiln.submit_many([spec(seed=n) for n in range(150)], not_before=TOMORROW)]
    come(kiln, *jobs)
    claims.look(due=True)
    assert kiln.redis.llen(keys.QUEUE(LANE)) == 100
    claims.look(due=True)
    waiting: Any = kiln.redis.lrange(keys.QUEUE(LANE), 0, -1)
    assert [one.decode() for one in waiting] == jobs
    claims.look(due=True)
    assert kiln.redis.llen(keys.QUEUE(LANE)) == 150


def test_a_job_that_waits_for_a_time_is_cancelled(kiln: Kiln, claims: Claims) -> None:
    one, other = (kiln.submit(spec(), not_before=TOMORROW).id for _ in range(2))
    assert kiln.cancel([one]) == {one: "queued"}
    assert kiln.cancel_all("client:default") == {other: "queued"}
    assert kiln.redis.zcard(keys.SCHEDULED(LANE)) == 0
    come(kiln, one)  # as if the cancel had come too late
    assert taken(claims) is None
    assert ends(kiln, one) == ["canceled"]


def test_what_plain_rq_schedules_happens(kiln: Kiln, claims: Claims) -> None:
    later = queue(kiln).enqueue_in(timedelta(hours=1), FUNCTION, SPEC)
    soon = queue(kiln).enqueue_at(TOMORROW, FUNCTION, SPEC)
    front = queue(kiln).enqueue_at(TOMORROW, FUNCTION, SPEC, at_front=True)
    assert kiln.status(later.id).not_before
    assert taken(claims) is None
    come(kiln, soon.id, front.id)
    claims.look(due=True)
    assert [taken(claims), taken(claims), taken(claims)] == [front.id, soon.id, None]


@pytest.mark.parametrize("forged", ["gone", "a b", "x" * 70, b"\xff"])
def test_an_id_that_is_no_job_leaves_the_lane(kiln: Kiln, claims: Claims, forged: str | bytes) -> None:
    job = kiln.submit(spec(), not_before=TOMORROW)
    come(kiln, job.id)
    kiln.redis.zadd(keys.SCHEDULED(LANE), {forged: 0})
    assert taken(claims) == job.id
    assert kiln.redis.zcard(keys.SCHEDULED(LANE)) == 0


def test_a_record_may_come_after_its_id(kiln: Kiln, claims: Claims) -> None:
    seconds, _ = kiln.redis.time()  # type: ignore[misc]
    kiln.redis.sadd(keys.QUEUES, keys.QUEUE(LANE))
    kiln.redis.zadd(keys.SCHEDULED(LANE), {"late": seconds - 1})
    assert taken(claims) is None
    kiln.submit(spec(), id="late", not_before=datetime(2020, 1, 1))
    kiln.redis.lrem(keys.QUEUE(LANE), 0, "late")
    kiln.redis.hset(keys.JOB("late"), "status", "scheduled")
    claims.look(due=True)
    assert taken(claims) == "late"


def test_anothers_job_goes_home(kiln: Kiln, claims: Claims, submit: Submit) -> None:
    job = kiln.submit(spec(client="victim"), not_before=TOMORROW)
    thief = "kiln:demo:bf16:high:mallory"
    kiln.redis.sadd(keys.QUEUES, keys.QUEUE(thief))
    come(kiln, job.id, lane=thief)
    claims.look(due=True)
    assert taken(claims) is None
    assert kiln.status(job.id).not_before == "2090-01-01T22:00:00Z"


@pytest.mark.parametrize("kind", ["string", "list"])
def test_a_key_of_another_type_stops_nobody(kiln: Kiln, claims: Claims, submit: Submit, kind: str) -> None:
    job = submit()
    for name in (keys.SCHEDULED(LANE), keys.LIMITS):
        kiln.redis.set(name, "x") if kind == "string" else kiln.redis.rpush(name, "x")
    assert taken(claims) == job
    later = kiln.submit(spec(), not_before=TOMORROW)
    assert kiln.status(later.id).not_before


def test_a_limit_lets_so_many_through_at_once(kiln: Kiln, claims: Claims) -> None:
    limit = RateLimit("mine", 1)
    first, *_ = (queue(kiln).enqueue(FUNCTION, SPEC, rate_limit=limit).id for _ in range(3))
    waiting: Any = kiln.redis.zrange(keys.LIMITED("mine"), 0, -1)  # of one second by their ids
    second, third = (one.decode() for one in waiting)
    assert kiln.status(second).waits == "for a place below the limit mine"
    claim = took(claims)
    assert (claim.job_id, claims.take(DEMO)) == (first, None)
    claims.look(due=True)
    assert claims.take(DEMO) is None
    assert claims.finish(claim, RESULT, 1.0)
    claims.look(due=True)
    claim = took(claims)
    assert claim.job_id == second
    kiln.cancel([second])
    claims.look(due=True)
    assert taken(claims) == third


def test_a_limit_is_forgotten_with_its_last_job(kiln: Kiln, claims: Claims) -> None:
    queue(kiln).enqueue(FUNCTION, SPEC, rate_limit=RateLimit("mine", 1))
    claims.finish(took(claims), RESULT, 1.0)
    claims.look(due=True)
    assert kiln.redis.exists(keys.LIMITS, keys.LIMIT("mine"), keys.PLACES("mine")) == 0


def test_a_limit_of_another_application_is_its_own(kiln: Kiln, claims: Claims) -> None:
    app = Queue("app", connection=kiln.redis, serializer=JSONSerializer)
    first, second = (app.enqueue("app.show", rate_limit=RateLimit("app", 1)) for _ in range(2))
    kiln.redis.hset(keys.JOB(first.id), "status", "finished")  # its worker has yet to free the place
    claims.look(due=True)
    assert app.job_ids == [first.id]
    assert second.get_status().value == "rate_limited"


def test_a_limit_and_a_time_go_together(kiln: Kiln, claims: Claims) -> None:
    limit = RateLimit("mine", 1)
    jobs = [queue(kiln).enqueue_at(TOMORROW, FUNCTION, SPEC, rate_limit=limit).id for _ in range(2)]
    come(kiln, *jobs)
    claims.look(due=True)
    claims.look(due=True)
    assert kiln.redis.llen(keys.QUEUE(LANE)) == 1
    claims.finish(took(claims), RESULT, 1.0)
    claims.look(due=True)
    assert taken(claims) == jobs[1]


def hours(kiln: Kiln, job_id: str, *spans: tuple[float, float]) -> None:
    """Name the hours of a job, in hours from now by the server's clock."""
    seconds, _ = kiln.redis.time()  # type: ignore[misc]
    text = ",".join(f"{seconds + 3600 * a:.0f}-{seconds + 3600 * b:.0f}" for a, b in spans)
    kiln.redis.hset(keys.JOB(job_id), "kiln_hours", text)


def test_a_job_with_windows_waits_for_the_next_of_them(kiln: Kiln, claims: Claims) -> None:
    now = datetime.now(UTC)
    soon = Windows.parse(f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}", UTC)
    job = kiln.submit(spec(), not_before=soon)
    assert kiln.status(job.id).not_before == f"{soon.opens(now):%Y-%m-%dT%H:%M:%SZ}"
    come(kiln, job.id)  # by a clock that was set forward, and back
    claims.look(due=True)
    assert taken(claims) is None
    assert kiln.status(job.id).not_before == f"{soon.opens(now):%Y-%m-%dT%H:%M:%SZ}"
    open_now = Windows.parse("Mo-Su", UTC)
    other = kiln.submit(spec(), not_before=open_now)
    assert taken(claims) == other.id


def test_jobs_outside_their_windows_leave_their_lane_in_order_and_hold_nobody_up(
    kiln: Kiln, claims: Claims, submit: Submit
) -> None:
    jobs = [submit() for _ in range(30)]
    other = submit()
    for one in jobs:
        hours(kiln, one, (-3, -2), (1, 2))
    assert taken(claims) == other
    assert queue(kiln).scheduled_job_registry.get_job_ids() == jobs
    assert kiln.status(jobs[0]).not_before
    come(kiln, *jobs)
    for one in jobs:
        hours(kiln, one, (-1, 1))
    claims.look(due=True)
    assert [taken(claims) for _ in jobs] == jobs


def test_a_job_that_is_given_back_outside_its_windows_waits_for_them(
    kiln: Kiln, claims: Claims, submit: Submit
) -> None:
    submit()
    claim = took(claims)
    hours(kiln, claim.job_id, (1, 2))
    assert claims.release(claim)
    assert taken(claims) is None
    assert kiln.status(claim.job_id).not_before


def test_windows_are_the_same_weeks_later_and_forged_ones_hold_only_their_job(
    kiln: Kiln, claims: Claims, submit: Submit
) -> None:
    weeks = 3 * 7 * 24
    opened, closed, forged = submit(), submit(), submit()
    hours(kiln, opened, (-weeks - 1, 1 - weeks))
    hours(kiln, closed, (-weeks + 1, -weeks + 2))
    kiln.redis.hset(keys.JOB(forged), "kiln_hours", "9-x,,-,1-2-3" + "9" * 2000)
    assert [taken(claims), taken(claims), taken(claims)] == [opened, forged, None]
    seconds, _ = kiln.redis.time()  # type: ignore[misc]
    score: Any = kiln.redis.zscore(keys.SCHEDULED(LANE), closed)
    assert score == pytest.approx(seconds + 3600, abs=60)
