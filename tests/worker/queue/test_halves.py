"""Whatever a producer that writes command by command leaves behind, a job that is whole is taken."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import permutations

import pytest
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.jobs.queue.record import FUNCTION
from pixelkiln.worker.queue import halves
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.farm import DEMO, LANE, Make, Submit, taken, took
from tests.worker.queue.test_budget import ran, records_that_came, records_that_never_come

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


def test_a_record_in_no_queue_is_queued(claims: Claims, kiln: Kiln) -> None:
    Producer(kiln, "half").record()
    assert taken(claims) is None
    claims.recover()
    assert taken(claims) == "half"
    claims.recover()
    assert taken(claims) is None


def test_one_that_its_producer_queues_then_is_taken_once(claims: Claims, kiln: Kiln) -> None:
    one = Producer(kiln, "late")
    one.record()
    claims.recover()
    one.name()
    one.push()
    assert [taken(claims), taken(claims)] == ["late", None]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "finished"},
        {"status": "started"},
        {"status": "deferred"},
        {"status": "scheduled"},
        {"status": "canceled"},
        {"status": "created"},
        {"origin": "another:queue"},
        {"origin": "x" * 2000},
        {"origin": ""},
        {"data": ""},
    ],
)
def test_records_that_do_not_wait_stay_where_they_are(
    claims: Claims, kiln: Kiln, change: dict[str, str]
) -> None:
    Producer(kiln, "other").record()
    kiln.redis.hset(keys.JOB("other"), mapping=change)
    kiln.redis.hset(keys.JOB("a/b"), mapping={"data": DATA, "origin": LANE, "status": "queued"})
    kiln.redis.rpush(keys.JOB("list"), "x")
    before = sorted(kiln.redis.keys("rq:*"))
    claims.recover()
    assert sorted(kiln.redis.keys("rq:*")) == before


def test_what_waits_or_is_rendered_is_left_alone(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    ids = [submit() for _ in range(5)]
    running = took(claims)
    claims.recover()
    assert kiln.redis.lrange(keys.QUEUE(LANE), 0, -1) == [
        one.encode() for one in ids if one != running.job_id
    ]


def test_in_a_long_lane_it_is_found_once_that_is_shorter(claims: Claims, kiln: Kiln) -> None:
    Producer(kiln, "half").record()
    kiln.redis.rpush(keys.QUEUE(LANE), *(f"gone{n}" for n in range(1001)))
    claims.recover()
    assert kiln.redis.llen(keys.QUEUE(LANE)) == 1001
    kiln.redis.ltrim(keys.QUEUE(LANE), 0, 9)
    claims.recover()
    assert kiln.redis.lindex(keys.QUEUE(LANE), -1) == b"half"


def test_of_many_keys_each_turn_looks_at_some(
    claims: Claims, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halves, "PAGES", 2)
    with kiln.redis.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.hset(keys.JOB(f"done-{n}"), mapping={"status": "finished", "origin": LANE})
        pipe.execute()
    Producer(kiln, "half").record()
    turns = 0
    while not kiln.redis.llen(keys.QUEUE(LANE)):
        before = ran(kiln.redis, "scan")
        kiln.redis.delete(keys.RECOVERED)
        claims.recover(due=False)
        assert ran(kiln.redis, "scan") - before <= 2
        turns += 1
        assert turns < 20
    assert taken(claims) == "half"


def test_who_may_not_list_keys_asks_once(settings: Settings, make_claims: Make, kiln: Kiln) -> None:
    assert settings.redis_url is not None
    owner = kiln.redis
    owner.execute_command("ACL", "SETUSER", "halves", "on", ">a-password", "~*", "&*", "+@all", "-scan")
    url = f"redis://halves:a-password@{settings.redis_url.get_secret_value().rpartition('@')[2]}"
    try:
        claims = make_claims(where=settings.model_copy(update={"redis_url": SecretStr(url)}))
        Producer(kiln, "half").record()
        for _ in range(3):
            claims.recover()
        assert owner.info("commandstats")["cmdstat_scan"]["rejected_calls"] >= 1
        assert claims._halves._refused
        assert taken(claims) is None
    finally:
        owner.execute_command("ACL", "DELUSER", "halves")


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
