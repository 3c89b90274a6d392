"""What waits for a job follows its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from rq import Queue
from rq.executions import ExecutionRegistry
from rq.job import JobStatus as RQStatus
from rq.serializers import JSONSerializer
from rq.worker import Worker

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.queue.record import FUNCTION
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.dependents import MOST_DEPENDENTS, Dependents
from tests.worker.queue.farm import (
    DEMO,
    LANE,
    RESULT,
    Make,
    Submit,
    taken,
    took,
)


def test_a_dependent_is_enqueued_when_its_parent_finishes(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    parent = submit()
    queue = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer)
    child = queue.enqueue(FUNCTION, {"prompt": "x", "model": "demo"}, depends_on=parent)
    assert child.get_status() is RQStatus.DEFERRED
    claim = took(claims)
    assert claim.job_id == parent
    assert claims.take(DEMO) is None
    assert claims.finish(claim, RESULT, 1.0)
    assert kiln.status(child.id).state == "queued"
    assert taken(claims) == child.id


@pytest.mark.parametrize("serializer", [JSONSerializer, None], ids=["json", "pickle"])
def test_an_applications_own_dependent_is_enqueued_too(
    claims: Claims, submit: Submit, kiln: Kiln, serializer: Any
) -> None:
    """What happens to the picture next is the producer's affair, in a queue and a format of its own."""
    parent = submit()
    queue = Queue("app", connection=kiln.redis, serializer=serializer)
    child = queue.enqueue("app.show", {"id": parent}, depends_on=parent)
    claims.finish(took(claims), RESULT, 1.0)
    assert child.get_status() is RQStatus.QUEUED
    assert queue.job_ids == [child.id]


def test_a_dependent_that_allows_failure_follows_a_failure(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    from rq.job import Dependency

    parent = submit()
    queue = Queue("app", connection=kiln.redis, serializer=JSONSerializer)
    wants = queue.enqueue("app.show", depends_on=Dependency(parent, allow_failure=True))
    strict = queue.enqueue("app.show", depends_on=parent)
    claims.fail(took(claims), "why")
    assert wants.get_status() is RQStatus.QUEUED
    assert strict.get_status() is RQStatus.DEFERRED


def test_a_malformed_dependent_does_not_hold_its_parent_up(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    parent = submit()
    kiln.redis.sadd(f"rq:job:{parent}:dependents", "gone", "bad", b"\xff")
    kiln.redis.hset("rq:job:bad", mapping={"status": "deferred", "data": "x", "created_at": "never"})
    for name, about in (("free", {}), ("tied", {"dependency_ids": json.dumps([parent])})):
        kiln.redis.sadd(f"rq:job:{parent}:dependents", name)
        kiln.redis.hset(f"rq:job:{name}", mapping={"status": "deferred", "data": "x", **about})
        kiln.redis.set(f"rq:job:{name}:dependencies", "text")
    sound = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer).enqueue(
        FUNCTION, {"prompt": "x", "model": "demo"}, depends_on=parent
    )
    assert claims.finish(took(claims), RESULT, 1.0)
    assert kiln.status(parent).state == "finished"
    assert taken(claims) == sound.id


def test_a_circle_ends(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    parent = submit()
    queue = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer)
    child = queue.enqueue(FUNCTION, {"prompt": "x", "model": "demo"}, depends_on=parent)
    for job_id, other in ((parent, child.id), (parent, parent)):
        kiln.redis.sadd(f"rq:job:{other}:dependents", job_id)
        kiln.redis.sadd(f"rq:job:{job_id}:dependencies", other)
        kiln.redis.hset(f"rq:job:{job_id}", "dependency_ids", json.dumps([other]))
    assert claims.finish(took(claims), RESULT, 1.0)
    claim = took(claims)
    assert claim.job_id == child.id
    assert claims.finish(claim, RESULT, 1.0)
    assert claims.take(DEMO) is None
    assert kiln.status(parent).state == "finished"


def test_more_dependents_than_can_be_looked_at_hold_no_worker_up(
    claims: Claims, submit: Submit, kiln: Kiln, caplog: pytest.LogCaptureFixture
) -> None:
    parent = submit()
    kiln.redis.sadd(f"rq:job:{parent}:dependents", *map(str, range(MOST_DEPENDENTS + 1)))
    assert claims.finish(took(claims), RESULT, 1.0)
    assert "dependents" in caplog.text


def test_dependents_left_halfway_are_enqueued_later(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    """A worker may die between the end of the parent and the enqueueing of what follows."""
    parent = submit()
    queue = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer)
    child = queue.enqueue(FUNCTION, {"prompt": "x", "model": "demo"}, depends_on=parent)
    claim = took(claims)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dependents, "enqueue", lambda *_: None)
        claims.finish(claim, RESULT, 1.0)
    assert claims.take(DEMO) is None
    claims.recover()
    assert taken(claims) == child.id


def test_one_worker_looks_for_dependents_for_all(make_claims: Make, kiln: Kiln) -> None:
    """A key of another type is what a look deletes."""
    one, other = make_claims("worker-1"), make_claims("worker-2")
    kiln.redis.sadd("rq:queues", f"rq:queue:{LANE}")
    kiln.redis.set(keys.READY(LANE), "text")
    one.recover(due=False)
    assert not kiln.redis.exists(keys.READY(LANE))
    kiln.redis.set(keys.READY(LANE), "text")
    other.recover(due=False)
    assert kiln.redis.exists(keys.READY(LANE))
    kiln.redis.expire(keys.RECOVERED, 6 * 3600)  # as when the server's clock is set back
    other.recover(due=False)
    assert not kiln.redis.exists(keys.READY(LANE))


def test_recovering_dependents_survives_what_strangers_wrote(claims: Claims, kiln: Kiln) -> None:
    kiln.redis.sadd(
        "rq:queues",
        b"rq:queue:kiln:\xff",
        f"rq:queue:{LANE}",
        "rq:queue:kiln:demo:bf16:normal:a",
        "rq:queue:kiln:demo:bf16:normal:b",
    )
    kiln.redis.zadd(f"rq:ready:{LANE}", {"bad": 1, b"\xff": 2})
    kiln.redis.hset("rq:job:bad", mapping={"status": "ready_to_enqueue", "data": "x", "created_at": "never"})
    kiln.redis.set("rq:ready:kiln:demo:bf16:normal:a", "text")
    claims.recover()
    assert kiln.redis.zscore(f"rq:ready:{LANE}", b"\xff") is None
    assert not kiln.redis.exists("rq:ready:kiln:demo:bf16:normal:a")


def test_rqs_tools_list_what_a_worker_holds(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    claim = took(claims)
    registry = ExecutionRegistry(job_id, kiln.redis)
    assert registry.get_execution_ids() == [claim.execution]
    assert Worker.all(connection=kiln.redis) == []
    members: Any = kiln.redis.smembers("rq:worker:worker-1:executions")
    assert members == {f"{job_id}:{claim.execution}".encode()}


def test_a_cancelled_job_leaves_nothing_of_its_execution(
    claims: Claims, submit: Callable[..., str], kiln: Kiln
) -> None:
    job_id = submit()
    claim = claims.take(["demo:bf16"])
    assert claim is not None
    kiln.cancel([job_id])
    assert claims.renew([(claim, None)]) == {claim.execution}
    left = {key.decode() for key in kiln.redis.keys(f"*{job_id}*")} - {f"rq:job:{job_id}"}
    assert left == set()
    assert kiln.redis.zcard("kiln:leases") == 0


def test_a_dependent_that_is_cancelled_as_its_job_ends_stays_so(
    claims: Claims, submit: Callable[..., str], kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer)
    parent = submit()
    follower = queue.enqueue(FUNCTION, {"prompt": "x", "model": "demo"}, depends_on=parent).id
    claim = claims.take(DEMO)
    assert claim is not None
    ready, cancelled = Dependents.ready, []

    def late(*arguments: Any) -> Any:
        found = ready(*arguments)
        if not cancelled:
            cancelled.append(kiln.cancel([follower]))
        return found

    monkeypatch.setattr(Dependents, "ready", late)
    assert claims.finish(claim, RESULT, 1.0)
    assert kiln.status(follower).state == "cancelled"
    assert claims.take(DEMO) is None
