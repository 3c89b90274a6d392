"""The index of waiting jobs is derived: lost, forged or written past, it heals, and no job is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.record import FUNCTION
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.farm import DEMO, LANE, RESULT, Make, Submit, expire, poison, taken, took
from tests.worker.queue.test_leave import larger

OLD = Path(__file__).parents[2] / "benchmarks" / "take_by_scan.lua"
SAMPLE = Path(__file__).with_name("version_0_1.json")
INDEX = [
    "kiln:kinds",
    "kiln:mail",
    "kiln:moved",
    "kiln:due",
    "kiln:level:demo:bf16:normal",
    "kiln:ahead:demo:bf16:normal",
    "kiln:level:demo:bf16>100:normal",
]


def many(kiln: Kiln, count: int = 200) -> None:
    """So many queues that one worker looks through them for all."""
    kiln.redis.sadd("rq:queues", *(f"rq:queue:other-{n}" for n in range(count)))


def plain_rq(kiln: Kiln, client: str = "rq", priority: str = "normal") -> Job:
    """A job of a producer without this package."""
    queue = Queue(f"kiln:demo:bf16:{priority}:{client}", connection=kiln.redis, serializer=JSONSerializer)
    return queue.enqueue(FUNCTION, {"prompt": "x", "model": "demo", "client": client})


@pytest.mark.parametrize("key", INDEX)
@pytest.mark.parametrize("kind", ["nothing", "string", "hash"])
def test_a_part_that_is_lost_or_forged_loses_no_job(
    claims: Claims, submit: Submit, kiln: Kiln, key: str, kind: str
) -> None:
    larger(kiln)
    small, large = submit("small"), submit("large")
    claim = took(claims)
    assert claims.release(claim)
    claims.finish(took(claims), RESULT, 90.0)  # its client is ahead
    assert claims.leave(took(claims), 100) == "back"
    submit("again")
    assert claims.take(DEMO, without=["default"]) is None
    kiln.redis.delete(key)
    if kind == "string":
        kiln.redis.set(key, "x")
    elif kind == "hash":
        kiln.redis.hset(key, "x", "y")
    third = submit("third")
    found = {taken(claims) for _ in range(3)}
    assert found == {large, "again", third}
    assert kiln.status(small).state == "finished"
    assert claims.take(DEMO) is None


def test_without_an_index_everything_is_found(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    jobs = {submit(client=f"c{n}") for n in range(120)}
    first = taken(claims)
    kiln.redis.delete(*kiln.redis.keys("kiln:*"))
    assert {taken(claims) for _ in range(119)} | {first} == jobs


def test_a_job_of_plain_rq_is_found_among_many_queues(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    many(kiln)
    submit()
    assert taken(claims)
    job = plain_rq(kiln, priority="high")
    kiln.redis.delete(keys.LOOKED)  # as a second later
    assert taken(claims) == job.id


def test_one_worker_looks_for_all(make_claims: Make, submit: Submit, kiln: Kiln) -> None:
    many(kiln)
    one, other = make_claims("one"), make_claims("other")
    assert one.take(DEMO) is None
    kiln.redis.delete(keys.LOOKED)
    assert not one.look()
    job = plain_rq(kiln)
    assert not other.look()  # one has, just now
    assert other.take(DEMO) is None
    kiln.redis.delete(keys.LOOKED)
    assert taken(other) == job.id


def test_a_worker_that_dies_as_it_looks_is_followed_by_another(make_claims: Make, kiln: Kiln) -> None:
    many(kiln, 2000)
    dying, other = make_claims("dying"), make_claims("other")
    assert other.take(DEMO) is None
    kiln.redis.delete(keys.LOOKED)
    job = plain_rq(kiln)
    cursor, *_ = dying._call("look", cursor="0", whole=False, due=False, every=0.9)
    assert cursor != b"0"  # a part of the queues, and no more
    assert 0 < kiln.redis.pttl(keys.LOOKED) <= 900
    kiln.redis.delete(keys.LOOKED)
    assert taken(other) == job.id


@pytest.mark.parametrize("lasts", [6 * 3600, None])
def test_a_mark_from_before_the_clock_was_set_back_keeps_nobody_from_looking(
    claims: Claims, kiln: Kiln, lasts: int | None
) -> None:
    many(kiln)
    assert claims.take(DEMO) is None
    for mark in (keys.LOOKED, keys.LOOKED_WHOLE):
        kiln.redis.set(mark, "1", ex=lasts)
    job = plain_rq(kiln)
    assert claims.look()
    assert 0 < kiln.redis.pttl(keys.LOOKED) <= 900
    assert 0 < kiln.redis.ttl(keys.LOOKED_WHOLE) <= 60
    assert taken(claims) == job.id


def test_who_looks_wakes_who_waits(claims: Claims, kiln: Kiln) -> None:
    assert claims.take(DEMO) is None
    plain_rq(kiln)
    assert kiln.redis.llen("kiln:bell:demo") == 0
    assert claims.look()
    assert kiln.redis.llen("kiln:bell:demo") == 1


@pytest.mark.parametrize("tool", ["requeue", "empty", "delete", "cancel", "queue.delete"])
def test_rqs_tools_write_past_the_index(claims: Claims, submit: Submit, kiln: Kiln, tool: str) -> None:
    job_id, other = submit(), submit(client="other")
    assert claims.take(DEMO, without=["default", "other"]) is None
    job = Job.fetch(job_id, connection=kiln.redis, serializer=JSONSerializer)
    queue = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer)
    if tool == "requeue":
        assert claims.fail(took(claims), "why")
        assert taken(claims) == other
        job.requeue()
        assert taken(claims) == job_id
    else:
        acts = {
            "empty": queue.empty,
            "delete": job.delete,
            "cancel": job.cancel,
            "queue.delete": queue.delete,
        }
        acts[tool]()
        assert [taken(claims), taken(claims)] == [other, None]


def test_a_flood_of_mail_hides_no_job(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    assert claims.take(DEMO) is None
    sound = submit()
    for start in range(0, 100_000, 10_000):
        kiln.redis.lpush(keys.MAIL, *(f"kiln:demo:bf16:high:{n}" for n in range(start, start + 10_000)))
    assert taken(claims) == sound
    assert kiln.redis.llen(keys.MAIL) <= 5000


def test_mail_that_nobody_reads_is_bounded(submit: Submit, kiln: Kiln) -> None:
    kiln.redis.lpush(keys.MAIL, *("x" for _ in range(6000)))
    submit()
    assert kiln.redis.llen(keys.MAIL) == 5000


def test_sizes_that_no_worker_made_are_no_hiding_place(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    """Jobs in lanes of forged sizes go home, so that the sizes that are told apart stay few."""
    for n in range(40):
        lane = f"kiln:demo:bf16>{10**6 + n}:normal:default"
        poison(kiln, f"forged-{n}", {"status": "queued", "data": "x", "origin": lane}, lane)
    sound = submit()
    found = {claims.take(DEMO, memory=5).job_id for _ in range(41)}  # type: ignore[union-attr]
    assert found == {sound, *(f"forged-{n}" for n in range(40))}
    assert {one for one in kiln.redis.zrange(keys.KINDS, 0, -1) if b">" in one} == set()


# --- workers of version 0.1 in the same farm


@pytest.fixture
def old(kiln: Kiln) -> Callable[..., Any]:
    """The script of version 0.1."""
    script = kiln.redis.register_script(OLD.read_text())
    return lambda *arguments: script(args=arguments)


def old_take(old: Callable[..., Any], token: str, memory: int = 2**53) -> str | None:
    found = old("take", token, "old", "2026-01-01T00:00:00.000000Z", 15, 30, "0", "", memory, "-", 0, *DEMO)
    return found[0].decode() if found else None


def test_every_job_is_taken_once_by_workers_of_two_versions(
    claims: Claims, submit: Submit, kiln: Kiln, old: Callable[..., Any]
) -> None:
    jobs = [submit(client=f"c{n % 7}", priority=("high", "normal")[n % 2]) for n in range(60)]
    found = []
    for n in range(30):
        found.append(old_take(old, f"t{n}"))
        found.append(taken(claims))
    assert sorted(filter(None, found)) == sorted(jobs)
    assert (taken(claims), old_take(old, "last")) == (None, None)


def test_what_an_older_worker_gives_back_is_taken(
    claims: Claims, submit: Submit, kiln: Kiln, old: Callable[..., Any]
) -> None:
    job_id = submit()
    assert claims.take(DEMO, without=["default"]) is None
    assert old_take(old, "t1") == job_id
    assert claims.take(DEMO) is None
    assert old("release", job_id, "t1", LANE, "old", "") == b"back"
    assert taken(claims) == job_id


def test_clocks_that_an_older_worker_changed_count_within_a_look(
    claims: Claims, submit: Submit, kiln: Kiln, old: Callable[..., Any]
) -> None:
    for client in ("a", "b"):
        for n in range(3):
            submit(f"{client}{n}", client=client)
    assert claims.take(DEMO, without=["a", "b"]) is None
    assert old_take(old, "t1") == "a0"  # a is 30 ahead now, by a worker that told nobody
    assert taken(claims) == "b0"
    assert old("release", "a0", "t1", "kiln:demo:bf16:normal:a", "old", "") == b"back"
    claims.look()
    assert taken(claims) == "a0"


def test_a_job_that_an_older_worker_left_is_left_again(
    claims: Claims, submit: Submit, kiln: Kiln, old: Callable[..., Any]
) -> None:
    job_id = submit()
    larger(kiln)
    assert old_take(old, "t1", 50) == job_id
    assert old("leave", job_id, "t1", LANE, "old", DEMO[0], 100, 600) == b"back"
    claim = claims.take(DEMO, memory=50)
    assert claim is not None
    assert claims.leave(claim, 100) == "back"
    assert claims.take(DEMO, memory=50) is None
    again = claims.take(DEMO, memory=100)
    assert again is not None
    assert (again.job_id, again.lane.name) == (job_id, LANE)


def test_a_farm_of_version_0_1_goes_on(make_claims: Make, kiln: Kiln) -> None:
    """Its records, leases, owners and left jobs, as its own commands would write them."""
    for command in json.loads(SAMPLE.read_text()):
        kiln.redis.execute_command(*(part.encode("latin-1") for part in command))
    worker = make_claims("mini-1-bbbbbb")
    rendering = Claim("rendering", "e1" * 16, lane_of(kiln, "rendering"))
    spooled = Claim("spooled", "e2" * 16, lane_of(kiln, "spooled"))
    lapsed = Claim("lapsed", "e3" * 16, lane_of(kiln, "lapsed"))
    assert kiln.status("finished").result is not None
    assert kiln.status("failed").error == "why"
    assert kiln.status("cancelled").state == "cancelled"
    assert worker.renew([(rendering, None)]) == set()
    assert worker.finish(rendering, RESULT, 5.0)
    assert worker.adopt(spooled) == "owned"
    assert worker.finish(spooled, RESULT, 5.0)
    expire(kiln, lapsed)
    assert worker.reap() == ["lapsed"]
    found = []
    while claim := worker.take(DEMO):
        found.append(claim.job_id)
        assert worker.finish(claim, RESULT, 1.0)
    assert found[0] == "waits-high"
    assert sorted(found) == ["lapsed", "left", "waits", "waits-high"]
    assert kiln.redis.zcard(keys.LEASES) == 0


def lane_of(kiln: Kiln, job_id: str) -> Lane:
    """The lane of a job in the sample."""
    lane = Lane.parse(kiln.status(job_id).lane)
    assert lane is not None
    return lane
