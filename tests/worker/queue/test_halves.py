"""Whatever a producer that writes command by command leaves behind, a job that is whole is taken."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import permutations

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.queue.record import FUNCTION
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.farm import DEMO, LANE, Submit, taken, took
from tests.worker.queue.test_budget import records_that_came, records_that_never_come

DATA = json.dumps([FUNCTION, None, [{"prompt": "a fox", "model": "demo"}], {}])


class Producer:
    """Writes one job, a command at a time."""

    def __init__(self, kiln: Kiln, job_id: str, lane: str = LANE) -> None:
        self.redis, self.id, self.lane = kiln.redis, job_id, lane

    def name(self) -> None:
        self.redis.sadd(keys.QUEUES, keys.QUEUE(self.lane))

    def push(self) -> None:
        self.redis.rpush(keys.QUEUE(self.lane), self.id)

    def record(self) -> None:
        about = {"data": DATA, "origin": self.lane, "status": "queued"}
        self.redis.hset(keys.JOB(self.id), mapping=about)

    def mail(self) -> None:
        self.redis.lpush(keys.MAIL, self.lane)


def minute(kiln: Kiln) -> None:
    """Let the next look be at all lanes, as a minute later."""
    kiln.redis.delete(keys.LOOKED, keys.LOOKED_WHOLE)


def crowd(kiln: Kiln) -> None:
    """So many queues that known ones are looked at once a minute."""
    kiln.redis.sadd(keys.QUEUES, *(keys.QUEUE(f"other{n}") for n in range(60)))


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_an_id_that_comes_before_its_record_is_kept(
    claims: Claims, submit: Submit, kiln: Kiln, crowded: bool, told: bool
) -> None:
    if crowded:
        crowd(kiln)
    one = Producer(kiln, "early")
    one.name()
    one.push()
    assert taken(claims) is None
    sound = submit()
    assert taken(claims) == sound  # nobody waits for it
    one.record()
    if told:
        one.mail()
    else:
        minute(kiln)
    claims._looked = float("-inf")
    assert took(claims).job_id == "early"
    assert taken(claims) is None
    assert not kiln.redis.exists(keys.EARLY(LANE))


@pytest.mark.parametrize("order", list(permutations(["name", "push", "record"])))
@pytest.mark.parametrize("died", [1, 2, 3])
def test_in_whatever_order_takes_come_in_between(
    claims: Claims, kiln: Kiln, order: tuple[str, ...], died: int
) -> None:
    one = Producer(kiln, "slow")
    found = []
    for command in order[:died]:
        getattr(one, command)()
        for _ in range(2):
            claims._looked = float("-inf")
            found.append(taken(claims))
    # Whole once the id, its record and the lane's name are there.
    assert [job for job in found if job] == (["slow"] if died == 3 else [])


def test_ids_whose_record_never_comes_are_forgotten(claims: Claims, kiln: Kiln) -> None:
    one = Producer(kiln, "never")
    one.name()
    one.push()
    assert taken(claims) is None
    assert kiln.redis.zrange(keys.EARLY(LANE), 0, -1) == [b"never"]
    assert 0 < kiln.redis.ttl(keys.EARLY(LANE)) <= 3600
    kiln.redis.zadd(keys.EARLY(LANE), {"never": time.time() - 61})
    claims.look(due=True)
    assert not kiln.redis.exists(keys.EARLY(LANE))
    one.record()  # too late: another producer's to notice
    assert taken(claims) is None


def test_a_job_cancelled_while_it_is_early_is_not_taken(claims: Claims, kiln: Kiln) -> None:
    one = Producer(kiln, "early")
    one.name()
    one.push()
    assert taken(claims) is None
    one.record()
    assert kiln.cancel(["early"]) == {"early": "queued"}
    claims.look(due=True)
    assert taken(claims) is None
    assert kiln.status("early").state == "cancelled"


def test_a_job_sent_twice_is_rendered_once(claims: Claims, kiln: Kiln) -> None:
    one = Producer(kiln, "twice")
    for _ in range(2):
        one.name()
        one.push()
        one.record()
    claim = took(claims)
    assert taken(claims) is None
    assert claims.finish(claim, {"png": "p", "sidecar": "s", "sha256": "0"}, 1.0)
    one.push()
    one.mail()
    assert taken(claims) is None


@pytest.mark.parametrize("write", [records_that_never_come, records_that_came])
def test_an_early_id_is_found_among_strangers(
    claims: Claims, kiln: Kiln, write: Callable[[Kiln], None]
) -> None:
    assert claims.take(DEMO) is None
    write(kiln)
    honest = Producer(kiln, "honest", "kiln:demo:bf16:high:honest")
    honest.name()
    honest.push()
    honest.mail()
    taken_within(claims, kiln, lambda job: not kiln.redis.llen(keys.QUEUE(honest.lane)))
    honest.record()
    taken_within(claims, kiln, lambda job: job == "honest")


def taken_within(claims: Claims, kiln: Kiln, enough: Callable[[str | None], bool]) -> None:
    """Take until it is enough, a minute after the other."""
    for _ in range(100):
        minute(kiln)
        claims._looked = float("-inf")
        if enough(taken(claims)):
            return
    raise AssertionError("not in a hundred minutes")


def test_a_lane_sets_aside_no_more_than_it_may(claims: Claims, kiln: Kiln) -> None:
    kiln.redis.rpush(keys.QUEUE(LANE), *(f"gone{n}" for n in range(2000)))
    kiln.redis.sadd(keys.QUEUES, keys.QUEUE(LANE))
    taken_within(claims, kiln, lambda job: not kiln.redis.llen(keys.QUEUE(LANE)))
    assert kiln.redis.zcard(keys.EARLY(LANE)) == 100


@pytest.mark.parametrize("kind", ["string", "hash", "list"])
def test_a_key_of_another_type_stops_nobody(claims: Claims, kiln: Kiln, kind: str) -> None:
    for name in (keys.EARLY(LANE), keys.QUEUE(LANE)):
        if kind == "string":
            kiln.redis.set(name, "x")
        elif kind == "hash":
            kiln.redis.hset(name, "x", "y")
        else:
            kiln.redis.rpush(name, "gone")
        claims._looked = float("-inf")
        assert taken(claims) is None
        kiln.redis.delete(name)
        one = Producer(kiln, f"after-{name[:5].replace(':', '-')}{kind}")
        one.name()
        one.push()
        one.record()
        claims._looked = float("-inf")
        assert taken(claims) == one.id
