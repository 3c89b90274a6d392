"""What one call to Redis looks at is bounded, whatever a producer wrote: others come in between.

Counted in commands that the server ran for a call; what a call of all looks may be is far below MOST.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.queue.record import MAX_FIELDS, Follower
from pixelkiln.worker.queue.claim import stamp
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.farm import DEMO, LANE, RESULT, Submit, expire, poison, took
from tests.worker.queue.test_leave import larger

MOST = 5000
LONG = "x" * 2**21  # more than a call has looks for
KIND = DEMO[0]


def ran(connection: redis.Redis, *names: str) -> int:
    """Commands that the server has run in all; or of these names."""
    stats: Any = connection.info("commandstats")
    return sum(
        value["calls"] for name, value in stats.items() if not names or name.removeprefix("cmdstat_") in names
    )


@pytest.fixture
def calls(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The commands of each call of a script."""
    found: list[int] = []
    call = claims._call

    def counted(operation: str, **named: Any) -> Any:
        before = ran(claims.connection)
        answer = call(operation, **named)
        found.append(ran(claims.connection) - before - 1)
        return answer

    monkeypatch.setattr(claims, "_call", counted)
    return found


def lanes(kiln: Kiln, form: str, jobs: Callable[[int], list[str]], origin: str = "", **more: Any) -> None:
    """200 lanes, and records of the jobs in them."""
    with kiln.redis.pipeline(transaction=False) as pipe:
        for n in range(200):
            lane = form.format(n)
            ids = jobs(n)
            for job_id in set(ids):
                record = {"status": "queued", "origin": (origin or form).format(n), "enqueued_at": stamp()}
                pipe.hset(keys.JOB(job_id), mapping={**record, "data": "[", **more})
            pipe.rpush(keys.QUEUE(lane), *ids)
            pipe.sadd(keys.QUEUES, keys.QUEUE(lane))
            pipe.lpush(keys.MAIL, lane)
            pipe.execute()


def needs(kiln: Kiln, form: str, origin: str = "") -> None:
    """In each lane the same id a thousand times, left for a day to workers of a hundred bytes."""
    ahead = f"100 {time.time() + 80_000:.0f}"
    lanes(kiln, form, lambda n: [f"j{n}"] * 1000, origin, kiln_needs=ahead)


def needs_in_plain_lanes(kiln: Kiln) -> None:
    needs(kiln, f"kiln:{KIND}:normal:c{{}}")


def needs_in_lanes_of_a_size(kiln: Kiln) -> None:
    needs(kiln, f"kiln:{KIND}>100:normal:c{{}}")


def needs_in_lanes_of_a_known_size(kiln: Kiln) -> None:
    kiln.redis.zadd(keys.KINDS, {f"{KIND}>100": time.time()})
    needs_in_lanes_of_a_size(kiln)


def needs_that_belong_elsewhere(kiln: Kiln) -> None:
    needs(kiln, f"kiln:{KIND}:normal:c{{}}", f"kiln:{KIND}>100:normal:c{{}}")


def sizes(kiln: Kiln) -> None:
    lanes(kiln, f"kiln:{KIND}>1{{:06}}:normal:c", lambda n: [f"j{n}"] * 300)


def strays(kiln: Kiln) -> None:
    kiln.redis.rpush(keys.QUEUE(f"kiln:{KIND}:normal:full"), *(f"gone{n}" for n in range(2000)))
    ids = [[f"j{n}-{i}" for i in range(50)] for n in range(200)]
    lanes(kiln, f"kiln:{KIND}:low:c{{}}", lambda n: ids[n], f"kiln:{KIND}:normal:full")


def clocks(kiln: Kiln) -> None:
    """Clients whose clocks changed, where many sizes of many kinds wait."""
    groups = [f"m{n}:q{n}>{size}" for n in range(10) for size in range(1, 18)]
    kiln.redis.zadd(keys.KINDS, dict.fromkeys(groups, time.time()))
    kiln.redis.lpush(keys.MOVED, *(f"c{n}" for n in range(300)))


def records_that_never_come(kiln: Kiln) -> None:
    """In each of many lanes many ids without records, told of again and again."""
    for n in range(200):
        lane = f"kiln:{KIND}:normal:c{n}"
        kiln.redis.zadd(keys.EARLY(lane), {f"set-aside-{i}": time.time() for i in range(100)})
        kiln.redis.rpush(keys.QUEUE(lane), *(f"gone{n}-{i}" for i in range(300)))
        kiln.redis.sadd(keys.QUEUES, keys.QUEUE(lane))
        kiln.redis.lpush(keys.MAIL, lane)


def records_that_came(kiln: Kiln) -> None:
    """Records for all that was set aside."""
    with kiln.redis.pipeline(transaction=False) as pipe:
        for n in range(200):
            lane = f"kiln:{KIND}:low:c{n}"
            for i in range(100):
                pipe.hset(keys.JOB(f"j{n}-{i}"), mapping={"data": "[", "enqueued_at": stamp()})
            pipe.zadd(keys.EARLY(lane), {f"j{n}-{i}": time.time() for i in range(100)})
            pipe.sadd(keys.QUEUES, keys.QUEUE(lane))
            pipe.lpush(keys.MAIL, lane)
        pipe.execute()


@pytest.mark.parametrize(
    "write",
    [
        records_that_never_come,
        records_that_came,
        needs_in_plain_lanes,
        needs_in_lanes_of_a_size,
        needs_in_lanes_of_a_known_size,
        needs_that_belong_elsewhere,
        sizes,
        strays,
        clocks,
    ],
)
def test_no_call_looks_at_more_than_it_may(
    claims: Claims, submit: Submit, kiln: Kiln, calls: list[int], write: Callable[[Kiln], None]
) -> None:
    assert claims.take(DEMO) is None
    write(kiln)
    honest = submit(client="honest")
    found = set()
    for _ in range(300):
        if claim := claims.take(DEMO, memory=50):
            found.add(claim.job_id)
        if honest in found:
            break
    assert honest in found
    assert max(calls) < MOST


def test_ids_that_are_long_count_as_many(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    for _ in range(6):
        poison(kiln, LONG)
    claims._call("take", **asked(), hasty=True)  # makes the kind known
    left = kiln.redis.llen(keys.QUEUE(LANE))
    claims._call("look", cursor="0", whole=True, due=True, every=0.9)
    assert left - kiln.redis.llen(keys.QUEUE(LANE)) == 1
    honest = submit()
    assert took(claims).job_id == honest


def test_mail_that_is_long_counts_as_much(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    assert claims.take(DEMO) is None
    kiln.redis.lpush(keys.MAIL, *[LONG] * 6)
    honest = submit()
    assert claims._call("take", **asked(), hasty=False) == b"more"
    assert kiln.redis.llen(keys.MAIL) >= 5
    assert took(claims).job_id == honest


def asked() -> dict[str, Any]:
    """A take's arguments."""
    about = {"execution": "e", "worker": "w", "stamp": stamp(), "lease": 15.0, "estimate": 30.0, "stale": 0.0}
    return {**about, "served": DEMO, "resident": [], "memory": 100, "without": [], "handed": []}


def test_paused_clients_in_forged_priorities_are_not_all_passed_over(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    assert claims.take(DEMO) is None
    kiln.redis.zadd(keys.LEVEL(KIND, "odd"), {f"p{n}:paused": n for n in range(20_000)})
    before = ran(kiln.redis, "zrange")
    assert claims.take(DEMO, without=["paused"]) is None
    assert ran(kiln.redis, "zrange") - before < 40  # in two takes and a look
    honest = submit()
    found = claims.take(DEMO, without=["paused"])
    assert found is not None
    assert found.job_id == honest


def test_a_spooled_job_is_not_looked_for_in_all_of_a_long_lane(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    job_id = submit()
    claim = took(claims)
    assert claims.release(claim)
    kiln.redis.lpush(keys.QUEUE(LANE), *(f"gone{n}" for n in range(2000)))
    assert claims.adopt(claim) == "owned"
    assert kiln.redis.llen(keys.QUEUE(LANE)) == 2001
    assert claims.finish(claim, RESULT, 1.0)
    assert claims.take(DEMO) is None  # what was left of it there is dropped
    assert kiln.status(job_id).state == "finished"


def test_fields_and_owners_of_any_length_are_not_read(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    claim = took(claims)
    execution = keys.EXECUTION(job_id, claim.execution)
    kiln.redis.hset(execution, mapping={"worker_name": LONG, "lane": LONG})
    kiln.redis.hset(keys.JOB(job_id), mapping={"meta": LONG, "kiln_crashes": LONG, "kiln_lapses": LONG})
    kiln.redis.set(keys.OWNER(job_id), LONG)
    before = ran(kiln.redis, "get")  # which does not say how much it reads at most
    assert claims.renew([(claim, None)]) == set()  # whose owner it is, is written anew
    kiln.redis.set(keys.OWNER(job_id), LONG)
    expire(kiln, claim)
    claims.reap()
    kiln.redis.set(keys.OWNER(job_id), LONG)
    kiln.cancel([job_id])
    assert ran(kiln.redis, "get") == before
    assert kiln.status(job_id).state == "cancelled"


def test_a_worker_is_known_by_what_it_says_in_short(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    submit()
    larger(kiln, f"{KIND},{LONG}")
    kiln.redis.sadd(keys.WORKERS, *(keys.WORKER(f"dead-{n}") for n in range(50)))
    claim = claims.take(DEMO, memory=50)
    assert claim is not None
    assert claims.leave(claim, 100) == "alone"
    assert kiln.redis.smembers(keys.WORKERS) == {b"rq:worker:large"}  # names of nothing are struck off


def test_a_dependents_record_of_many_fields_is_not_measured(kiln: Kiln) -> None:
    kiln.redis.hset(keys.JOB("many"), mapping={f"f{n}": "x" for n in range(MAX_FIELDS + 1)})
    kiln.redis.hset(keys.JOB("few"), mapping={"status": "deferred", "created_at": stamp(), "data": "x"})
    before = ran(kiln.redis, "memory|usage")
    found = Follower.fetch_many(["many", "few", "none"], kiln.redis)
    assert [one and one.id for one in found] == [None, "few", None]
    assert ran(kiln.redis, "memory|usage") - before == 2
