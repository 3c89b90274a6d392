"""A job has one end, whoever else reaches for it and whatever gets lost on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from rq import Queue
from rq.executions import Execution
from rq.job import Job
from rq.job import JobStatus as RQStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, keys
from pixelkiln.worker.queue.claim import Claim, Progress
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.farm import (
    DEMO,
    LANE,
    RESULT,
    Make,
    Rewire,
    Submit,
    charged,
    ends,
    expire,
    took,
    traces,
)


def test_finishing_is_rqs_own_bookkeeping(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    claim = took(claims)
    queue = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer)
    started = queue.started_job_registry
    assert started.count == 1  # reading it makes RQ clean up: the job must survive that
    assert started.get_job_ids() == [job_id]
    job = Job.fetch(job_id, connection=kiln.redis, serializer=JSONSerializer)
    assert job.get_status() is RQStatus.STARTED
    assert job.worker_name == "worker-1"
    assert [execution.id for execution in job.get_executions()] == [claim.execution]
    execution = Execution.fetch(claim.execution, job_id, kiln.redis)
    assert execution.worker_name == "worker-1"
    assert claims.finish(claim, RESULT, seconds=12.5)
    assert traces(kiln, claim) == []
    job = Job.fetch(job_id, connection=kiln.redis, serializer=JSONSerializer)
    assert job.get_status() is RQStatus.FINISHED
    assert job.ended_at is not None
    assert job.return_value() == RESULT
    latest = job.latest_result()
    assert latest is not None
    assert latest.return_value == RESULT
    assert (latest.worker_name, latest.execution_id) == ("worker-1", claim.execution)
    assert FinishedJobRegistry(LANE, kiln.redis).get_job_ids() == [job_id]
    assert StartedJobRegistry(LANE, kiln.redis).count == 0
    assert job.get_executions() == []
    assert ends(kiln, job_id) == ["result 0", "finished"]
    days = kiln.redis.ttl(f"rq:job:{job_id}") / 86_400
    assert 6.9 < days <= 7


def test_failing_is_rqs_own_bookkeeping(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    claim = took(claims)
    assert claims.fail(claim, "it broke")
    job = Job.fetch(job_id, connection=kiln.redis, serializer=JSONSerializer)
    assert job.get_status() is RQStatus.FAILED
    latest = job.latest_result()
    assert latest is not None
    assert latest.exc_string == "it broke"
    assert FailedJobRegistry(LANE, kiln.redis).get_job_ids() == [job_id]
    assert traces(kiln, claim) == []
    job.requeue()  # RQ's own tool
    assert kiln.status(job_id).state == "queued"
    again = took(claims)
    assert (again.job_id, again.attempt) == (job_id, 2)


def told(kiln: Kiln, job_id: str) -> dict[str, Any]:
    """What a job's record tells of its end to those who cannot read RQ's results."""
    record = kiln.redis.hgetall(keys.JOB(job_id))
    names = ("kiln_result", "kiln_error")
    return {name: json.loads(record[name.encode()]) for name in names if name.encode() in record}


def test_an_end_is_in_the_record_as_json(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    finished, failed = submit(), submit()
    assert claims.finish(took(claims), RESULT, 1.0)
    assert claims.fail(took(claims), "it broke")
    assert told(kiln, finished) == {"kiln_result": RESULT}
    assert told(kiln, failed) == {"kiln_error": {"error": "it broke"}}
    Job.fetch(failed, connection=kiln.redis, serializer=JSONSerializer).requeue()
    assert claims.finish(took(claims), RESULT, 1.0)
    assert told(kiln, failed) == {"kiln_result": RESULT}


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("", ""),
        ("\n", ""),
        ("Traceback\nwhy: Füchse", "why: Füchse"),
        ('a "quote"', 'a "quote"'),
        ("a\x1b[31m\u202eb", "a\ufffd[31m\ufffdb"),
        ("x" * 5000, "x" * 500),
    ],
)
def test_an_error_in_the_record_is_the_line_that_status_shows(
    claims: Claims, submit: Submit, kiln: Kiln, reason: str, line: str
) -> None:
    job_id = submit()
    assert claims.fail(took(claims), reason)
    assert told(kiln, job_id) == {"kiln_error": {"error": line}}
    assert kiln.status(job_id).error == line


def test_what_a_producer_writes_there_is_read_by_nobody(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    forged = {"kiln_result": json.dumps({**RESULT, "png": "forged"}), "kiln_error": "x" * 100_000}
    kiln.redis.hset(keys.JOB(job_id), mapping=forged)
    assert claims.finish(took(claims), RESULT, 1.0)
    assert told(kiln, job_id) == {"kiln_result": RESULT}
    kiln.redis.hset(keys.JOB(job_id), mapping=forged)
    found = kiln.status(job_id)
    assert found.result is not None
    assert (found.result.png, found.error) == ("p", "")


def test_settling_again_says_the_same(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    submit()
    claim = took(claims)
    assert claims.finish(claim, RESULT, 1.0)
    assert claims.finish(claim, RESULT, 1.0)
    assert ends(kiln, claim.job_id) == ["result 0", "finished"]


def test_a_settlement_whose_reply_is_lost_is_made_once(
    rewire: Rewire, make_claims: Make, submit: Submit, kiln: Kiln
) -> None:
    settings, proxy = rewire("redis")
    far = make_claims("far", settings)
    for end in ("finish", "fail"):
        submit()
        claim = took(far)
        proxy.lose_reply_to(b"EXEC\r\n")
        act = (
            (lambda c=claim: far.finish(c, RESULT, 5.0))
            if end == "finish"
            else (lambda c=claim: far.fail(c, "why"))
        )
        assert repeated(act)
        assert ends(kiln, claim.job_id) == ["result 0", "finished" if end == "finish" else "failed"]
    assert proxy.lost == 2


def repeated(act: Callable[[], bool]) -> bool:
    """As a worker does: until Redis answers."""
    for _ in range(5):
        try:
            return act()
        except redis.RedisError:
            continue
    raise AssertionError("no answer in five tries")


def test_gpu_time_is_charged_once(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    submit(client="payer")
    claim = claims.take(DEMO, estimate=30.0)
    assert claim is not None
    assert float(kiln.redis.hget("kiln:clocks", "payer") or 0) == 30.0
    claims.finish(claim, RESULT, 12.0)
    claims.finish(claim, RESULT, 12.0)
    assert float(kiln.redis.hget("kiln:clocks", "payer") or 0) == 12.0


def test_jobs_that_fail_cost_their_time(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    """Else a client whose jobs all fail would be served before any other, without end."""
    for seconds, paid in ((2.0, 2.0), (None, 30.0)):  # None: nobody knows, the estimate stands
        submit(client="payer")
        before = charged(kiln, "payer")
        claim = claims.take(DEMO, estimate=30.0)
        assert claim is not None
        assert claims.fail(claim, "why", seconds)
        assert charged(kiln, "payer") - before == paid


@pytest.mark.parametrize("kind", ["string", "hash"])
def test_a_bell_of_another_type_stops_nobody(claims: Claims, kiln: Kiln, kind: str) -> None:
    if kind == "string":
        kiln.redis.set("kiln:bell:demo", "x")
    else:
        kiln.redis.hset("kiln:bell:demo", "x", "y")
    assert claims.take(DEMO) is None
    claims.wait(["demo"], 0.01)


def test_what_a_job_costs_is_charged_as_it_is_known(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    submit()
    submit()
    first = claims.take(DEMO, estimate=0.1)
    assert first is not None
    for told, paid in ((Progress("loading"), 0.1), (Progress("rendering", 2, 28, 30.0), 30.0), (None, 30.0)):
        claims.renew([(first, told)])
        assert charged(kiln) == pytest.approx(paid)
    done = Progress("delivering", cost=12.0)
    second = claims.take(DEMO, estimate=0.1, handed=[(first, done)])  # before it is chosen who is next
    assert charged(kiln) == pytest.approx(12.1)
    assert second is not None
    claims.renew([(first, done)])
    claims.finish(first, RESULT, 12.0)
    claims.finish(second, RESULT, 3.0)
    assert charged(kiln) == pytest.approx(15.0)
    assert kiln.redis.keys("kiln:execution:*") == []


@pytest.mark.parametrize("how", ["release", "crash", "reap", "adopt"])
def test_what_was_not_rendered_is_not_charged(claims: Claims, submit: Submit, kiln: Kiln, how: str) -> None:
    job_id = submit(client="payer")
    claim = claims.take(DEMO, estimate=30.0)
    assert claim is not None
    assert charged(kiln, "payer") == 30.0
    for _ in range(2):
        if how == "reap":
            expire(kiln, claim)
            claims.reap()
        elif how == "adopt":
            assert claims.adopt(Claim(job_id, claim.execution, claim.lane)) == "owned"
        else:
            claims.release(claim, crashed=how == "crash")
        assert charged(kiln, "payer") == 0.0
    if how == "adopt":
        claims.finish(Claim(job_id, claim.execution, claim.lane), RESULT, 12.0)
        assert charged(kiln, "payer") == 12.0


@pytest.mark.parametrize("rival", ["cancel", "rq cancel", "release", "reap", "finish twice"])
def test_a_race_has_one_end(make_claims: Make, submit: Submit, kiln: Kiln, rival: str) -> None:
    mine, other = make_claims("mine"), make_claims("other")
    outcomes = set()
    for round_ in range(40):
        job_id = submit(id=f"race-{round_}")
        claim = took(mine)
        start = threading.Barrier(2)
        answers: list[Any] = [None, None]

        def settle(
            claim: Claim = claim, start: threading.Barrier = start, answers: list[Any] = answers
        ) -> None:
            start.wait()
            answers[0] = mine.finish(claim, RESULT, 1.0)

        def interfere(
            claim: Claim = claim,
            start: threading.Barrier = start,
            answers: list[Any] = answers,
            pings: int = round_ % 8,
        ) -> None:
            start.wait()
            for _ in range(pings):  # so that it comes at every point of the settlement
                other.connection.ping()
            if rival == "cancel":
                answers[1] = kiln.cancel([claim.job_id])[claim.job_id] == "started"
            elif rival == "rq cancel":
                try:
                    Job.fetch(claim.job_id, connection=other.connection, serializer=JSONSerializer).cancel()
                    answers[1] = True
                except Exception:
                    answers[1] = False
            elif rival == "release":
                answers[1] = other.release(claim)
            elif rival == "reap":
                expire(kiln, claim)
                answers[1] = bool(other.reap())
            else:
                answers[1] = other.finish(claim, RESULT, 1.0)

        threads = [threading.Thread(target=settle), threading.Thread(target=interfere)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        state = kiln.status(job_id).state
        outcomes.add(state)
        if rival != "rq cancel":  # RQ's own cancel does not look whether the job has ended
            expected = {
                "finished": ["result 0", "finished"],
                "queued": ["queued"],
                "cancelled": ["canceled"],
            }[state]
            assert ends(kiln, job_id) == expected, (rival, state, answers)
            assert answers[0] == (state == "finished")
        assert kiln.redis.xlen(f"rq:results:{job_id}") <= 1
        assert not kiln.redis.exists(keys.OWNER(job_id)) or rival == "rq cancel"
        kiln.redis.delete(f"rq:queue:{LANE}")
    if rival != "rq cancel":  # it comes last whenever it comes: it takes finished jobs too
        assert "finished" in outcomes


def test_a_cancelled_job_is_not_finished(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    claim = took(claims)
    assert kiln.cancel([job_id]) == {job_id: "started"}
    assert not claims.holds(claim)
    assert not claims.finish(claim, RESULT, 1.0)
    assert not claims.fail(claim, "why")
    assert kiln.status(job_id).state == "cancelled"
    assert kiln.redis.xlen(f"rq:results:{job_id}") == 0
