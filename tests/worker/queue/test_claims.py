"""A job has one owner and one end, whoever else reaches for it and whatever gets lost on the way."""

from __future__ import annotations

import dataclasses
import json
import threading
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import redis
from rq import Queue
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job
from rq.job import JobStatus as RQStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.worker import Worker

from pixelkiln.jobs import Kiln, Settings, SpecError, keys
from pixelkiln.jobs.queue.record import FUNCTION, RenderJob, read_spec
from pixelkiln.worker.queue import claims as module
from pixelkiln.worker.queue.claims import (
    CRASHES,
    LAPSES,
    STALE,
    Claim,
    Claims,
    Progress,
    new_execution,
)
from pixelkiln.worker.queue.dependents import MOST_DEPENDENTS, MOST_LANES, Dependents
from tests.wire import Proxy

Submit = Callable[..., str]
Make = Callable[..., Claims]
Rewire = Callable[..., tuple[Settings, Proxy]]

DEMO = ["demo:bf16"]
LANE = "kiln:demo:bf16:normal:default"
RESULT = {"png": "p", "sidecar": "s", "sha256": "0"}


def taken(claims: Claims, *served: str, resident: str = "") -> str | None:
    claim = claims.take(list(served) or DEMO, resident)
    return claim.job_id if claim else None


def took(claims: Claims) -> Claim:
    claim = claims.take(DEMO)
    assert claim is not None
    return claim


def expire(kiln: Kiln, claim: Claim) -> None:
    kiln.redis.zadd("kiln:leases", {f"{claim.job_id}:{claim.execution}": 1})


def traces(kiln: Kiln, claim: Claim) -> list[str]:
    """Keys that still speak of a claim."""
    member = f"{claim.job_id}:{claim.execution}"
    named = {keys.OWNER(claim.job_id), f"rq:execution:{member}", f"kiln:taken:{claim.execution}"}
    found = []
    for key in sorted(item.decode() for item in kiln.redis.keys("*")):
        kind = kiln.redis.type(key)
        members: Any = kiln.redis.zrange(key, 0, -1) if kind == b"zset" else set()
        members = kiln.redis.smembers(key) if kind == b"set" else members
        if key in named or {member.encode(), claim.execution.encode()} & set(members):
            found.append(key)
    return found


def ends(kiln: Kiln, job_id: str, lane: str = LANE) -> list[str]:
    """Everywhere the job stands as ended or waiting: one place, in a sound farm."""
    found = [f"result {i}" for i in range(kiln.redis.xlen(f"rq:results:{job_id}"))]
    for registry in ("finished", "failed", "canceled", "wip"):
        members = [
            item.decode().partition(":")[0] for item in kiln.redis.zrange(f"rq:{registry}:{lane}", 0, -1)
        ]
        found += [registry] * members.count(job_id)
    queued = [item.decode() for item in kiln.redis.lrange(f"rq:queue:{lane}", 0, -1)]
    return found + ["queued"] * queued.count(job_id)


# --- taking


def test_nothing_to_take(claims: Claims) -> None:
    assert claims.take(DEMO) is None


def test_takes_in_the_order_of_submission(claims: Claims, submit: Submit) -> None:
    jobs = [submit() for _ in range(4)]
    assert [taken(claims) for _ in range(5)] == [*jobs, None]


def test_a_claim_says_what_the_worker_needs(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit(client="studio", seed=7)
    claim = took(claims)
    assert (claim.job_id, claim.lane.client, claim.attempt, claim.crashes) == (job_id, "studio", 1, 0)
    assert claim.lane.name == "kiln:demo:bf16:normal:studio"
    assert claim.submitted_at == kiln.status(job_id).submitted_at
    assert read_spec(claim.data, claim.lane, job_id).seed == 7
    assert claims.holds(claim)


def test_only_what_is_served_is_taken(claims: Claims, submit: Submit) -> None:
    job_id = submit(model="hidream-o1-dev", quantization="q6")
    assert taken(claims, "hidream-o1-dev:bf16", "demo:bf16", "dev:q6") is None
    assert taken(claims, "hidream-o1-dev:q6") == job_id


def test_higher_priority_first(claims: Claims, submit: Submit) -> None:
    low, normal, high = (submit(priority=p, client=f"c{i}") for i, p in enumerate(("low", "normal", "high")))
    assert [taken(claims) for _ in range(3)] == [high, normal, low]


def test_clients_share_by_gpu_time(claims: Claims, submit: Submit) -> None:
    for client in ("a", "b"):
        for i in range(4):
            submit(id=f"{client}{i}", client=client)
    order = []
    for _ in range(6):
        claim = took(claims)
        order.append(claim.lane.client)
        claims.finish(claim, RESULT, seconds=60.0 if claim.lane.client == "a" else 20.0)
    assert sorted(order[:2]) == ["a", "b"]
    assert order.count("b") == 4  # three of b's cost what one of a's does


def test_a_client_that_was_away_is_not_owed_the_time(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    for i in range(6):
        submit(id=f"a{i}", client="a")
    for _ in range(3):
        claims.finish(took(claims), RESULT, seconds=1000.0)
    for i in range(4):
        submit(id=f"late{i}", client="late")
    clients = []
    for _ in range(4):
        claim = took(claims)
        clients.append(claim.lane.client)
        claims.finish(claim, RESULT, seconds=1000.0)
    assert clients.count("a") >= 1
    assert clients.count("late") >= 2


def test_the_resident_model_first_among_equals(claims: Claims, submit: Submit) -> None:
    other = submit(model="hidream-o1-dev")
    own = submit(model="demo")
    served = ("hidream-o1-dev:bf16", "demo:bf16")
    claim = claims.take(served, "demo:bf16")
    assert claim is not None
    assert claim.job_id == own
    assert taken(claims, *served, resident="demo:bf16") == other


def test_a_lane_that_waited_long_before_the_resident_model(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    stale = submit(model="hidream-o1-dev")
    submit(model="demo")
    long_ago = module.stamp(
        module.datetime.fromtimestamp(module.datetime.now().timestamp() - STALE - 1, module.UTC)
    )
    kiln.redis.hset(f"rq:job:{stale}", "enqueued_at", long_ago)
    assert taken(claims, "hidream-o1-dev:bf16", "demo:bf16", resident="demo:bf16") == stale


def test_a_take_made_again_gives_the_same_job(claims: Claims, submit: Submit) -> None:
    first, second = submit(), submit()
    execution = new_execution()
    one, again = (claims.take(DEMO, execution=execution) for _ in range(2))
    assert one is not None
    assert again is not None
    assert (one.job_id, one.attempt, one.data) == (again.job_id, again.attempt, again.data)
    assert one.job_id == first
    assert taken(claims) == second


def test_a_take_made_again_after_the_job_went_on_gives_nothing(claims: Claims, submit: Submit) -> None:
    submit()
    submit()
    execution = new_execution()
    claim = claims.take(DEMO, execution=execution)
    assert claim is not None
    assert claims.release(claim)
    assert claims.take(DEMO, execution=execution) is None


def test_a_lost_reply_loses_no_job(rewire: Rewire, make_claims: Make, submit: Submit, kiln: Kiln) -> None:
    settings, proxy = rewire("redis")
    job_id, far = submit(), make_claims("far", settings)
    far.take(DEMO, without=["default"])  # loads the script
    execution = new_execution()
    proxy.lose_reply_to(b'"take"')
    with pytest.raises(redis.RedisError):
        far.take(DEMO, execution=execution)
    assert proxy.lost == 1
    assert kiln.redis.llen(f"rq:queue:{LANE}") == 0
    claim = far.take(DEMO, execution=execution)
    assert claim is not None
    assert (claim.job_id, claim.attempt) == (job_id, 1)


def test_every_job_is_taken_once_however_many_take(make_claims: Make, kiln: Kiln) -> None:
    jobs = kiln.submit_many([{"prompt": "x", "model": "demo"} for _ in range(60)])
    found: list[str] = []

    def work(claims: Claims) -> None:
        while (job_id := taken(claims)) is not None:
            found.append(job_id)

    threads = [threading.Thread(target=work, args=(make_claims(f"w{i}"),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(job.id for job in jobs)


def test_waiting_ends_with_the_ring(claims: Claims, submit: Submit) -> None:
    submit()
    claims.wait(["demo"], 20.0)  # rung already
    threading.Timer(0.05, submit).start()
    claims.wait(["other", "demo"], 20.0)
    assert taken(claims) is not None


# --- what strangers put into a lane


def poison(kiln: Kiln, job_id: str | bytes, record: Any = None, lane: str | bytes = LANE) -> None:
    """Put an id at the head of a lane, with a record of any type."""
    key = b"rq:job:" + (job_id if isinstance(job_id, bytes) else job_id.encode())
    if isinstance(record, dict):
        kiln.redis.hset(key, mapping=record)
    elif isinstance(record, list):
        kiln.redis.rpush(key, *record)
    elif record is not None:
        kiln.redis.set(key, record)
    name = b"rq:queue:" + (lane if isinstance(lane, bytes) else lane.encode())
    kiln.redis.sadd("rq:queues", name)
    kiln.redis.lpush(name, job_id)


@pytest.mark.parametrize("record", [None, "text", ["list"]], ids=["none", "string", "list"])
def test_ids_without_a_record_are_passed_over(
    claims: Claims, submit: Submit, kiln: Kiln, record: Any
) -> None:
    sound = submit()
    poison(kiln, "bad", record)
    assert [taken(claims), taken(claims)] == [sound, None]


@pytest.mark.parametrize("status", ["finished", "failed", "canceled", "started", "deferred"])
def test_ids_of_jobs_that_are_not_queued_are_passed_over(
    claims: Claims, submit: Submit, kiln: Kiln, status: str
) -> None:
    sound = submit()
    kiln.redis.set("kiln:own:bad", "somebody")
    poison(kiln, "bad", {"status": status, "data": "x"})
    assert [taken(claims), taken(claims)] == [sound, None]
    assert kiln.redis.hget("rq:job:bad", "status") == status.encode()


@pytest.mark.parametrize("status", ["started", "", b"\xff", "on fire", "queued" * 100_000])
def test_jobs_of_a_forged_status_are_judged_by_their_spec(
    claims: Claims, submit: Submit, kiln: Kiln, status: Any
) -> None:
    sound = submit()
    poison(kiln, "bad", {"status": status, "data": "x"})
    assert [taken(claims), taken(claims), taken(claims)] == ["bad", sound, None]


@pytest.mark.parametrize("there", [True, False])
def test_an_id_pushed_into_another_lane_finds_home(
    claims: Claims, submit: Submit, kiln: Kiln, there: bool
) -> None:
    """Else whoever may write one lane could have any job failed there."""
    job_id = submit()
    if not there:
        kiln.redis.delete(f"rq:queue:{LANE}")
    poison(kiln, job_id, None, "kiln:demo:bf16:high:mallory")
    claim = claims.take(DEMO) or claims.take(DEMO)  # a lane that was passed already is seen by the next take
    assert claim is not None
    assert (claim.job_id, claim.lane.name) == (job_id, LANE)
    assert claims.take(DEMO) is None


@pytest.mark.parametrize(
    "job_id", [b"a/b", b"..", b"a:b", b"\xff\xfe", b"x" * 65, b"", b"a b", b"-a", b"a\n"]
)
def test_ids_that_cannot_be_file_names_fail_and_are_passed_over(
    claims: Claims, submit: Submit, kiln: Kiln, job_id: bytes
) -> None:
    sound = submit()
    poison(kiln, job_id, {"status": "queued", "data": "x", "origin": LANE})
    assert [taken(claims), taken(claims)] == [sound, None]
    assert kiln.redis.hget(b"rq:job:" + job_id, "status") == b"failed"
    assert kiln.redis.zrange(f"rq:failed:{LANE}", 0, -1) == [job_id]


@pytest.mark.parametrize(
    "record",
    [
        {"status": "queued"},
        {"nothing": "known"},
        {"status": "queued", "data": ""},
        {"status": "queued", "data": b"\xff\x00"},
        {"status": "queued", "data": zlib.compress(b"[" * 30_000_000)},
        {"status": "queued", "data": b"[" * 200_000},
        {"status": "queued", "data": json.dumps(["os.system", None, ["touch x"], {}]), "created_at": "x"},
        {"status": "queued", "data": json.dumps([FUNCTION, None, [{"prompt": "x", "width": 3}], {}])},
        {"status": "queued", "enqueued_at": b"\xff" * 50, "origin": b"\xff", "timeout": "x"},
    ],
    ids=["no data", "no status", "empty", "binary", "bomb", "huge", "foreign", "bad spec", "bad dates"],
)
def test_malformed_jobs_cost_one_failed_job_each(
    claims: Claims, submit: Submit, kiln: Kiln, record: dict[str, Any]
) -> None:
    sound = submit()
    poison(kiln, "bad", record)
    claim = took(claims)
    assert claim.job_id == "bad"
    with pytest.raises(SpecError) as caught:
        read_spec(claim.data, claim.lane, claim.job_id)
    assert claims.fail(claim, str(caught.value))
    found = kiln.status("bad")
    assert (found.state, found.error) == ("failed", str(caught.value))
    assert ends(kiln, "bad") == ["result 0", "failed"]
    assert taken(claims) == sound


@pytest.mark.parametrize("forged", ["1e308", "nan", "inf", "-inf", "-5", "99999999999999999999", "x", ""])
def test_forged_counts_are_counts_all_the_same(
    claims: Claims, submit: Submit, kiln: Kiln, forged: str
) -> None:
    job_id = submit()
    kiln.redis.hset(f"rq:job:{job_id}", mapping={"kiln_attempts": forged, "kiln_crashes": forged})
    claim = took(claims)
    assert 1 <= claim.attempt < 2**53
    assert 0 <= claim.crashes < 2**53
    lives = 0
    while kiln.status(job_id).state != "failed":
        lives += 1
        assert lives <= CRASHES
        claims.release(claim, crashed=True)
        claim = claims.take(DEMO) or claim
    assert "quarantined" in kiln.status(job_id).error


@pytest.mark.parametrize(
    "lane", ["kiln:demo", "kiln::::", "kiln:demo:bf16:normal", "other", "kiln:demo:bf16:"]
)
def test_lanes_that_are_none_are_passed_over(claims: Claims, submit: Submit, kiln: Kiln, lane: str) -> None:
    sound = submit()
    poison(kiln, "bad", {"status": "queued", "data": "x"}, lane)
    assert [taken(claims), taken(claims)] == [sound, None]


@pytest.mark.parametrize(
    "lane", [b"kiln:demo:bf16:normal:\xff", b"kiln:demo:bf16:high:[/x]", b"kiln:demo:bf16:\xfe:a"]
)
def test_jobs_of_forged_lanes_fail_and_the_others_go_on(
    claims: Claims, submit: Submit, kiln: Kiln, lane: bytes
) -> None:
    sound = submit()
    data = json.dumps([FUNCTION, None, [{"prompt": "x", "model": "demo"}], {}])
    poison(kiln, "bad", {"status": "queued", "data": data}, lane)
    left = {"bad", sound}
    for _ in range(2):
        claim = took(claims)
        left.remove(claim.job_id)
        if claim.job_id == "bad":
            with pytest.raises(SpecError, match=r"^lane: "):
                read_spec(claim.data, claim.lane, claim.job_id)
        assert claims.fail(claim, "reason")
    assert not left
    assert claims.take(DEMO) is None
    claims.recover_dependents()
    claims.reap()


def test_ids_of_nothing_hide_no_job(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    kiln.redis.rpush(f"rq:queue:{LANE}", *(f"gone-{n}" for n in range(30_000)))
    sound = submit()
    assert [taken(claims), taken(claims)] == [sound, None]


def test_lanes_of_nothing_hide_no_job_and_are_struck_off(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    sound = submit()
    kiln.redis.zadd("rq:finished:other", {"x": 1})
    kiln.redis.sadd(
        "rq:queues", "rq:queue:other", *(f"rq:queue:kiln:demo:bf16:low:{n}" for n in range(25_000))
    )
    claims.recover_dependents()
    assert taken(claims) == sound
    kiln.redis.zadd(f"rq:finished:{LANE}", {sound: 1})
    for _ in range(9):
        assert claims.take(DEMO) is None
    names: Any = kiln.redis.smembers("rq:queues")
    assert len(names) <= MOST_LANES
    assert {f"rq:queue:{LANE}".encode(), b"rq:queue:other"} <= names


def test_a_lease_whose_execution_is_gone_brings_its_job_back(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    job_id = submit()
    claim = took(claims)
    kiln.redis.delete(f"rq:execution:{job_id}:{claim.execution}")
    kiln.redis.zadd("kiln:leases", {f"gone-{n}:x": 0 for n in range(2000)})
    expire(kiln, claim)
    assert claims.reap() == [job_id]
    assert kiln.redis.zcard("kiln:leases") == 0


@pytest.mark.parametrize("needs", ["9 9999999999", "9" * 40 + " 1", "x" * 100_000, "nan inf", ""])
def test_forged_needs_hide_no_job(claims: Claims, submit: Submit, kiln: Kiln, needs: str) -> None:
    kiln.redis.hset(f"rq:job:{submit()}", "kiln_needs", needs)
    assert claims.take(DEMO, memory=5) is not None


def test_a_name_too_long_for_a_lane_is_read_once(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    sound = submit()
    kiln.redis.sadd("rq:queues", "rq:queue:kiln:demo:bf16:low:" + "x" * 10_000, "x" * 10_000)
    assert taken(claims) == sound
    assert kiln.redis.smembers("rq:queues") == {f"rq:queue:{LANE}".encode()}


def test_a_queue_that_is_no_list_is_passed_over(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    sound = submit()
    kiln.redis.sadd("rq:queues", "rq:queue:kiln:demo:bf16:high:x")
    kiln.redis.set("rq:queue:kiln:demo:bf16:high:x", "text")
    assert taken(claims) == sound


OURS = ["kiln:clocks", "kiln:now", "kiln:leases", "kiln:own:{job}", "kiln:bell:demo"]


@pytest.mark.parametrize("key", OURS)
@pytest.mark.parametrize("kind", ["string", "list"])
def test_keys_of_ours_that_became_another_type_stop_nobody(
    claims: Claims, submit: Submit, kiln: Kiln, key: str, kind: str
) -> None:
    job_id = submit()
    name = key.format(job=job_id)
    kiln.redis.delete(name)
    if kind == "list":
        kiln.redis.rpush(name, "text")
    else:
        kiln.redis.set(name, "text")
    claim = took(claims)
    assert claims.renew([(claim, None)]) == set()
    assert claims.reap() == []
    assert claims.release(claim)
    assert claims.finish(took(claims), RESULT, 1.0)
    assert kiln.status(job_id).state == "finished"


@pytest.mark.parametrize("member", [b"nonsense", b"", b"\xff", b"a:", b"gone:e1"])
def test_leases_that_are_none_are_struck_off(
    claims: Claims, submit: Submit, kiln: Kiln, member: bytes
) -> None:
    job_id = submit()
    expire(kiln, took(claims))
    kiln.redis.zadd("kiln:leases", {member: 0})
    assert claims.reap() == [job_id]
    assert kiln.redis.zcard("kiln:leases") == 0


FORGED = [
    "rq:results:{job}",
    "rq:job:{job}:dependents",
    "rq:executions:{job}",
    f"rq:wip:{LANE}",
    f"rq:finished:{LANE}",
    f"rq:failed:{LANE}",
    f"rq:ready:{LANE}",
]


@pytest.mark.parametrize("key", FORGED)
@pytest.mark.parametrize("end", ["finish", "fail", "release"])
def test_keys_of_another_type_beside_a_job_do_not_hold_its_end_up(
    claims: Claims, submit: Submit, kiln: Kiln, key: str, end: str
) -> None:
    job_id = submit()
    kiln.redis.set(key.format(job=job_id), "text")
    claim = took(claims)
    assert claims.renew([(claim, Progress("loading"))]) == set()
    if end == "release":
        assert claims.release(claim)
        assert kiln.status(job_id).state == "queued"
    else:
        act = (
            (lambda: claims.fail(claim, "why"))
            if end == "fail"
            else (lambda: claims.finish(claim, RESULT, 1.0))
        )
        assert act()
        assert kiln.status(job_id).state == ("failed" if end == "fail" else "finished")
        assert act() in {True, False}  # made again, it does not raise
    assert not claims.holds(claim)


def test_a_result_that_cannot_be_written_beside_replaces_what_is_there(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    job_id = submit()
    kiln.redis.xadd(f"rq:results:{job_id}", {"type": "2"}, id=f"{2**64 - 1}-{2**64 - 1}")
    assert claims.fail(took(claims), "why")
    assert kiln.status(job_id).error == "why"


@pytest.mark.parametrize("owner", ["nothing", "a stranger", "a list"])
def test_a_job_whose_owner_was_forged_comes_back(
    claims: Claims, submit: Submit, kiln: Kiln, owner: str
) -> None:
    job_id = submit()
    claim = took(claims)
    kiln.redis.delete(f"kiln:own:{job_id}")
    if owner == "a stranger":
        kiln.redis.set(f"kiln:own:{job_id}", "x")
    elif owner == "a list":
        kiln.redis.rpush(f"kiln:own:{job_id}", "x")
    assert not claims.holds(claim)
    assert not claims.finish(claim, RESULT, 1.0)
    assert claims.renew([(claim, None)]) == {claim.execution}
    expire(kiln, claim)
    assert claims.reap() == [job_id]
    assert taken(claims) == job_id


@pytest.mark.parametrize("record", ["string", "nothing"])
def test_a_job_whose_record_was_replaced_is_nobodys(
    claims: Claims, submit: Submit, kiln: Kiln, record: str
) -> None:
    job_id = submit()
    claim = took(claims)
    kiln.redis.delete(f"rq:job:{job_id}")
    if record == "string":
        kiln.redis.set(f"rq:job:{job_id}", "x")
    assert not claims.holds(claim)
    assert not claims.cancelled(claim)
    assert not claims.fail(claim, "why")
    expire(kiln, claim)
    assert claims.reap() == []
    assert kiln.redis.zcard("kiln:leases") == 0


def test_a_record_that_is_rewritten_all_the_time_ends_in_spite_of_it(
    claims: Claims, submit: Submit, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit()
    claim = took(claims)
    bookkeep = claims._settlement._bookkeep

    def beside(*arguments: Any) -> None:
        bookkeep(*arguments)
        kiln.redis.hset(f"rq:job:{job_id}", "description", "x")
        kiln.redis.sadd(f"rq:job:{job_id}:dependents", "x")

    monkeypatch.setattr(claims._settlement, "_bookkeep", beside)
    assert claims.fail(claim, "why")
    assert kiln.status(job_id).error == "why"


def test_an_owner_that_is_rewritten_all_the_time_holds_no_worker_up(
    claims: Claims, submit: Submit, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit()
    claim = took(claims)
    bookkeep = claims._settlement._bookkeep

    def beside(*arguments: Any) -> None:
        bookkeep(*arguments)
        kiln.redis.set(f"kiln:own:{job_id}", claim.execution)

    monkeypatch.setattr(claims._settlement, "_bookkeep", beside)
    assert not claims.fail(claim, "why")


def test_no_client_is_a_day_ahead(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    victim, other = submit(client="victim"), submit(client="other")
    kiln.redis.hset("kiln:clocks", mapping={"victim": str(2**52), "other": "5"})
    assert [taken(claims), taken(claims)] == [victim, other]


def test_a_lane_turned_into_another_type_loses_no_job(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    claim = took(claims)
    kiln.redis.set(f"rq:queue:{LANE}", "text")
    assert claims.release(claim)
    assert taken(claims) == job_id


# --- keeping


def test_renewing_prolongs_and_publishes(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    claim = took(claims)
    expire(kiln, claim)
    assert claims.renew([(claim, Progress("rendering", 3, 28))]) == set()
    assert claims.reap() == []
    found = kiln.status(job_id)
    assert (found.phase, found.step, found.steps, found.worker) == ("rendering", 3, 28, "worker-1")
    assert claims.renew([(claim, None)]) == set()
    assert kiln.status(job_id).step == 3
    assert claims.renew([]) == set()


@pytest.mark.parametrize("how", ["cancelled", "requeued", "reaped", "finished", "deleted"])
def test_renewing_tells_what_is_lost(
    make_claims: Make, claims: Claims, submit: Submit, kiln: Kiln, how: str
) -> None:
    submit()
    kept = submit(client="kept")
    claim, other = took(claims), took(claims)
    claim, other = (claim, other) if other.job_id == kept else (other, claim)
    job = RenderJob.fetch(claim.job_id, connection=kiln.redis)
    if how == "cancelled":
        kiln.cancel([claim.job_id])
    elif how == "requeued":
        claims.release(claim)
        assert taken(make_claims("worker-2")) == claim.job_id
    elif how == "reaped":
        expire(kiln, claim)
        claims.reap()
    elif how == "finished":
        claims.finish(claim, RESULT, 1.0)
    else:
        job.delete()
    assert claims.renew([(claim, Progress("loading")), (other, None)]) == {claim.execution}
    assert not claims.holds(claim)
    assert claims.holds(other)
    assert kiln.redis.hget(f"rq:job:{claim.job_id}", "meta") is None


# --- giving back


def test_a_released_job_is_first_in_its_lane_and_not_blamed(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    first, second = submit(), submit()
    claim = took(claims)
    assert claims.release(claim)
    assert traces(kiln, claim) in ([], [f"kiln:taken:{claim.execution}"])
    found = kiln.status(first)
    assert (found.state, found.worker, found.phase) == ("queued", "", None)
    assert not claims.release(claim)
    again = took(claims)
    assert (again.job_id, again.attempt, again.crashes) == (first, 2, 0)
    assert taken(claims) == second


def test_adopting_goes_on_where_the_job_still_waits_or_is_held(
    make_claims: Make, submit: Submit, kiln: Kiln
) -> None:
    job_id = submit()
    dead, reborn, other = make_claims("dead"), make_claims("reborn"), make_claims("other")
    claim = took(dead)
    assert reborn.adopt(claim) == "owned"
    assert kiln.status(job_id).worker == "reborn"
    expire(kiln, claim)
    other.reap()
    assert reborn.adopt(claim) == "owned"  # it was queued again
    assert ends(kiln, job_id) == ["wip"]
    assert taken(other) is None
    assert reborn.finish(claim, RESULT, 1.0)
    assert reborn.adopt(claim) == "finished"


def test_adopting_steps_back_from_what_is_anothers(make_claims: Make, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    dead, reborn, other = make_claims("dead"), make_claims("reborn"), make_claims("other")
    claim = took(dead)
    expire(kiln, claim)
    other.reap()
    theirs = took(other)
    assert theirs.job_id == job_id
    assert reborn.adopt(claim) == "started"
    assert other.holds(theirs)
    kiln.cancel([job_id])
    assert reborn.adopt(claim) == "canceled"
    kiln.redis.delete(f"rq:job:{job_id}")
    assert reborn.adopt(claim) == "gone"


def test_a_silent_workers_job_is_given_back_then_quarantined(
    make_claims: Make, submit: Submit, kiln: Kiln
) -> None:
    first, _ = submit(), submit()
    reaper = make_claims("reaper")
    for life in range(1, LAPSES + 1):
        claim = took(make_claims(f"victim-{life}"))
        assert (claim.job_id, claim.attempt, claim.crashes) == (first, life, life - 1)
        assert reaper.reap() == []  # its lease still runs
        expire(kiln, claim)
        assert reaper.reap() == ([first] if life < LAPSES else [])
        assert not reaper.holds(claim)
    found = kiln.status(first)
    assert found.state == "failed"
    assert found.error.startswith(
        f"quarantined: {LAPSES} times its worker died or was cut off while it rendered it, "
        f"the last one victim-{LAPSES};"
    )
    assert ends(kiln, first) == ["result 0", "failed"]
    assert kiln.redis.zcard("kiln:leases") == 0


def test_a_job_that_took_workers_down_for_certain_is_quarantined_sooner(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    job_id = submit()
    expire(kiln, took(claims))
    assert claims.reap() == [job_id]  # proves nothing
    for crash in range(1, CRASHES + 1):
        claim = took(claims)
        assert (claim.job_id, claim.crashes) == (job_id, crash)
        assert kiln.status(job_id).state == "started"
        assert claims.release(claim, crashed=True)
    found = kiln.status(job_id)
    assert found.state == "failed"
    assert found.error.startswith(f"quarantined: {CRASHES} workers died while they rendered it, the last one")


def test_reaping_again_after_it_was_cut_off_quarantines_all_the_same(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    """Between the script and the settlement the reaper may die; the next one finds the job still owned."""
    job_id = submit()
    kiln.redis.hset(f"rq:job:{job_id}", "kiln_lapses", LAPSES - 1)
    claim = took(claims)
    expire(kiln, claim)
    claims._call("reap", lapses=LAPSES, limit=100)
    assert kiln.status(job_id).state == "started"
    expire(kiln, claim)
    claims.reap()
    assert kiln.status(job_id).state == "failed"


def test_a_job_whose_worker_died_days_ago_comes_back(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    """A farm that was off over the weekend: every record that expires has expired."""
    job_id = submit()
    claim = took(claims)
    for key in kiln.redis.keys("*"):
        if kiln.redis.ttl(key) > 0:
            kiln.redis.delete(key)
    expire(kiln, claim)
    assert claims.reap() == [job_id]
    assert taken(claims) == job_id


def test_reaping_survives_leases_of_jobs_that_are_gone(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    submit()
    claim = took(claims)
    kiln.redis.delete(f"rq:job:{claim.job_id}")
    expire(kiln, claim)
    assert claims.reap() == []
    assert kiln.redis.zcard("kiln:leases") == 0
    assert not kiln.redis.exists(keys.OWNER(claim.job_id))


# --- settling


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
    submit(client="payer")
    claim = claims.take(DEMO)
    assert claim is not None
    claim = dataclasses.replace(claim, started=claim.started - timedelta(seconds=2))
    assert claims.fail(claim, "why")
    assert 2.0 <= float(kiln.redis.hget("kiln:clocks", "payer") or 0) < 30.0


@pytest.mark.parametrize("kind", ["string", "hash"])
def test_a_bell_of_another_type_stops_nobody(claims: Claims, kiln: Kiln, kind: str) -> None:
    if kind == "string":
        kiln.redis.set("kiln:bell:demo", "x")
    else:
        kiln.redis.hset("kiln:bell:demo", "x", "y")
    assert claims.take(DEMO) is None
    claims.wait(["demo"], 0.01)


@pytest.mark.parametrize("how", ["release", "crash", "reap", "rq cancel", "adopt"])
def test_what_was_not_rendered_is_not_charged(claims: Claims, submit: Submit, kiln: Kiln, how: str) -> None:
    def charged() -> float:
        return float(kiln.redis.hget("kiln:clocks", "payer") or 0)

    job_id = submit(client="payer")
    claim = claims.take(DEMO, estimate=30.0)
    assert claim is not None
    assert charged() == 30.0
    for _ in range(2):
        if how == "reap":
            expire(kiln, claim)
            claims.reap()
        elif how == "rq cancel":
            kiln.redis.hset(f"rq:job:{job_id}", "status", "canceled")
            claims.renew([(claim, None)])
        elif how == "adopt":
            assert claims.adopt(Claim(job_id, claim.execution, claim.lane)) == "owned"
        else:
            claims.release(claim, crashed=how == "crash")
        assert charged() == 0.0
    if how == "adopt":
        claims.finish(Claim(job_id, claim.execution, claim.lane), RESULT, 12.0)
        assert charged() == 12.0


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


# --- dependents


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
    claims.recover_dependents()
    assert taken(claims) == child.id


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
    claims.recover_dependents()
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


# --- jobs too large for one worker


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


@pytest.mark.parametrize("forged", ["", "x", "-1 -1", "1e99 1e99", "9" * 400 + " 1", "100"])
def test_forged_needs_hold_nothing_up(
    claims: Claims, submit: Callable[..., str], kiln: Kiln, forged: str
) -> None:
    job_id = submit()
    kiln.redis.hset(f"rq:job:{job_id}", "kiln_needs", forged)
    claim = claims.take(["demo:bf16"], memory=50)
    assert claim is not None
    assert claim.job_id == job_id


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
