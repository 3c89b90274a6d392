"""What plain RQ lets a producer ask of a job: docs/wire.md has a row for each, and each does as it says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rq import Queue, Repeat, Retry
from rq.cron import CronJob
from rq.exceptions import DuplicateJobError
from rq.group import Group
from rq.job import Callback, Job
from rq.rate_limit import RateLimit
from rq.serializers import JSONSerializer
from rq.webhook import Webhook

from pixelkiln.jobs import Kiln, SpecError, keys
from pixelkiln.jobs.queue.record import FUNCTION, read_spec
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.farm import LANE, RESULT, taken, took

PAGE = Path(__file__).parents[3] / "docs" / "wire.md"
SPEC = {"prompt": "x", "model": "demo", "width": 64, "height": 64}
LATER = datetime(2090, 1, 1, tzinfo=UTC)


def rows() -> dict[str, str]:
    """What is asked for, and the first word of what comes of it."""
    section = PAGE.read_text("utf-8").partition("## What RQ lets a producer ask")[2].partition("\n## ")[0]
    found = {}
    for names, outcome in re.findall(r"^\| (`.+?) \| \*\*(\w+)\*\*", section, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            found[name] = outcome
    return found


@dataclass(frozen=True)
class Farm:
    kiln: Kiln
    claims: Claims
    queue: Queue

    def enqueue(self, **options: Any) -> Job:
        return self.queue.enqueue(FUNCTION, SPEC, **options)

    def unheeded(self, **options: Any) -> tuple[str, ...]:
        """What `kiln status` says is not done of a job that is enqueued so, and rendered all the same."""
        job = self.enqueue(**options)
        claim = took(self.claims)
        assert claim.job_id == job.id
        assert self.claims.finish(claim, RESULT, 1.0)
        status = self.kiln.status(job.id)
        assert status.state == "finished"
        return status.unheeded

    def refused(self) -> str:
        """Why a worker refuses the job that waits."""
        claim = took(self.claims)
        with pytest.raises(SpecError) as refusal:
            read_spec(claim.data, claim.lane, claim.job_id)
        return str(refusal.value)


@pytest.fixture
def farm(kiln: Kiln, claims: Claims) -> Farm:
    return Farm(kiln, claims, Queue(LANE, connection=kiln.redis, serializer=JSONSerializer))


def nobody(*_: Any) -> None:
    raise AssertionError("called")


def asked_depends_on(farm: Farm) -> None:
    parent = farm.enqueue()
    child = farm.enqueue(depends_on=parent)
    assert farm.kiln.status(child.id).waits == f"for the end of {parent.id}"
    claim = took(farm.claims)
    assert taken(farm.claims) is None
    farm.claims.finish(claim, RESULT, 1.0)
    assert taken(farm.claims) == child.id
    failed = farm.enqueue()
    strict = farm.enqueue(depends_on=failed)
    farm.claims.fail(took(farm.claims), "why")
    assert f"{failed.id}, which is failed" in farm.kiln.status(strict.id).waits
    assert farm.unheeded(job_id="first") == ()
    timed = farm.queue.enqueue_at(LATER, FUNCTION, SPEC, depends_on=strict)
    farm.kiln.redis.zadd(keys.SCHEDULED(LANE), {timed.id: 1})
    farm.claims.look(due=True)
    assert taken(farm.claims) == timed.id
    assert farm.kiln.status(timed.id).unheeded == ("depends_on",)


def asked_at_front(farm: Farm) -> None:
    first, front = farm.enqueue(), farm.enqueue(at_front=True)
    assert [taken(farm.claims), taken(farm.claims)] == [front.id, first.id]


def asked_datetime(farm: Farm) -> None:
    job = farm.queue.enqueue_at(LATER, FUNCTION, SPEC)
    assert farm.kiln.status(job.id).not_before == "2090-01-01T00:00:00Z"
    assert taken(farm.claims) is None
    farm.kiln.redis.zadd(keys.SCHEDULED(LANE), {job.id: 1})
    farm.claims.look(due=True)
    assert taken(farm.claims) == job.id


def asked_time_delta(farm: Farm) -> None:
    job = farm.queue.enqueue_in(timedelta(hours=1), FUNCTION, SPEC)
    assert farm.kiln.status(job.id).not_before
    assert taken(farm.claims) is None


def asked_rate_limit(farm: Farm) -> None:
    first, second = (farm.enqueue(rate_limit=RateLimit("mine", 1)) for _ in range(2))
    claim = took(farm.claims)
    assert farm.kiln.status(second.id).waits == "for a place below the limit mine"
    farm.claims.finish(claim, RESULT, 1.0)
    farm.claims.look(due=True)
    assert (claim.job_id, taken(farm.claims)) == (first.id, second.id)


def asked_ttl(farm: Farm) -> None:
    job = farm.enqueue(ttl=60)
    assert 0 < farm.kiln.redis.ttl(keys.JOB(job.id)) <= 60
    farm.kiln.redis.unlink(keys.JOB(job.id))  # as if it had passed
    assert taken(farm.claims) is None
    job = farm.enqueue(ttl=60)
    assert taken(farm.claims) == job.id
    assert farm.kiln.redis.ttl(keys.JOB(job.id)) == -1


def kept(farm: Farm, **options: Any) -> int:
    job = farm.enqueue(**options)
    claim = took(farm.claims)
    if "failure_ttl" in options:
        farm.claims.fail(claim, "why")
    else:
        farm.claims.finish(claim, RESULT, 1.0)
    seconds: Any = farm.kiln.redis.ttl(keys.JOB(job.id))
    return int(seconds)


def asked_job_id(farm: Farm) -> None:
    assert farm.enqueue(job_id="mine").id == "mine"
    assert taken(farm.claims) == "mine"


def asked_group_id(farm: Farm) -> None:
    group = Group.create(farm.kiln.redis, name="night")
    (job,) = group.enqueue_many(farm.queue, [Queue.prepare_data(FUNCTION, [SPEC])])
    assert taken(farm.claims) == job.id
    members: Any = farm.kiln.redis.smembers(keys.GROUP("night"))
    assert members == {job.id.encode()}


def asked_pipeline(farm: Farm) -> None:
    with farm.kiln.redis.pipeline() as pipe:
        job = farm.enqueue(pipeline=pipe)
        assert taken(farm.claims) is None
        pipe.execute()
    farm.claims.look(due=True)
    assert taken(farm.claims) == job.id


def asked_unique(farm: Farm) -> None:
    farm.enqueue(job_id="one", unique=True)
    with pytest.raises(DuplicateJobError):
        farm.enqueue(job_id="one", unique=True)
    assert taken(farm.claims) == "one"
    farm.queue.enqueue_at(LATER, FUNCTION, SPEC, job_id="two", unique=True)
    assert farm.kiln.status("two").not_before


def asked_kwargs(farm: Farm) -> None:
    farm.queue.enqueue(FUNCTION, SPEC, more=1)
    assert farm.refused().startswith("arguments: must be one object")


def asked_func(farm: Farm) -> None:
    farm.queue.enqueue("os.system", SPEC)
    assert farm.refused().startswith("function: is 'os.system'")


def asked_status(farm: Farm) -> None:
    """RQ's own word for a job that is not enqueued."""
    job = farm.queue.create_job(FUNCTION, [SPEC])
    assert farm.queue.enqueue_job(job).id == taken(farm.claims)


def asked_serializer(farm: Farm) -> None:
    Queue(LANE, connection=farm.kiln.redis).enqueue(FUNCTION, SPEC)
    assert farm.refused() == "spec: the job's data is not what RQ's JSONSerializer writes"


def asked_is_async(farm: Farm) -> None:
    here = Queue(LANE, connection=farm.kiln.redis, serializer=JSONSerializer, is_async=False)
    job = here.enqueue("pixelkiln.nothing", SPEC)  # RQ calls it in the producer: no worker hears of it
    assert job.get_status().value == "failed"
    assert taken(farm.claims) is None


def asked_cron(farm: Farm) -> None:
    CronJob(LANE, func=nobody, interval=60).enqueue(farm.kiln.redis)
    assert farm.refused() == "spec: the job's data is not what RQ's JSONSerializer writes"


def asked_description(farm: Farm) -> None:
    job = farm.enqueue(description="a fox")
    assert taken(farm.claims) == job.id
    assert farm.kiln.redis.hget(keys.JOB(job.id), "description") == b"a fox"


def asked_timeout(farm: Farm) -> None:
    assert farm.unheeded(job_timeout=1) == ()


def told(name: str, option: Any) -> Callable[[Farm], None]:
    def asked(farm: Farm) -> None:
        assert farm.unheeded(**{name: option}) == (name,)

    return asked


def longer(name: str) -> Callable[[Farm], None]:
    def asked(farm: Farm) -> None:
        assert kept(farm, **{name: 60}) >= 7 * 86_400 - 60

    return asked


HOOK = Callback(nobody)
CASES: dict[str, tuple[str, Callable[[Farm], None]]] = {
    "func": ("Refused", asked_func),
    "args": ("Refused", asked_kwargs),
    "kwargs": ("Refused", asked_kwargs),
    "serializer": ("Refused", asked_serializer),
    "cron": ("Refused", asked_cron),
    "is_async": ("Refused", asked_is_async),
    "datetime": ("Done", asked_datetime),
    "time_delta": ("Done", asked_time_delta),
    "depends_on": ("Done", asked_depends_on),
    "rate_limit": ("Done", asked_rate_limit),
    "at_front": ("Done", asked_at_front),
    "job_id": ("Done", asked_job_id),
    "unique": ("Done", asked_unique),
    "pipeline": ("Done", asked_pipeline),
    "group_id": ("Done", asked_group_id),
    "status": ("Done", asked_status),
    "description": ("Done", asked_description),
    "ttl": ("Done", asked_ttl),
    "retry": ("Told", told("retry", Retry(3, interval=60))),
    "repeat": ("Told", told("repeat", Repeat(3, interval=60))),
    "on_success": ("Told", told("on_success", HOOK)),
    "on_failure": ("Told", told("on_failure", HOOK)),
    "on_stopped": ("Told", told("on_stopped", HOOK)),
    "webhooks": ("Told", told("webhooks", [Webhook("http://127.0.0.1:9/", "finished")])),
    "meta": ("Told", told("meta", {"a": 1})),
    "timeout": ("Ignored", asked_timeout),
    "result_ttl": ("Ignored", longer("result_ttl")),
    "failure_ttl": ("Ignored", longer("failure_ttl")),
}


def test_each_thing_that_rq_takes_has_a_row() -> None:
    takers = (Queue.enqueue_call, Queue.create_job, Queue.enqueue_at, Queue.enqueue_in, Queue.prepare_data)
    known = {name for taker in takers for name in inspect.signature(taker).parameters}
    known -= {"self", "f"}
    assert rows().keys() == known | {"serializer", "is_async", "cron"}


@pytest.mark.parametrize("name", CASES)
def test_it_is_as_its_row_says(farm: Farm, name: str) -> None:
    outcome, case = CASES[name]
    assert rows()[name] == outcome
    case(farm)


def test_no_row_is_untried() -> None:
    assert rows().keys() == CASES.keys()
