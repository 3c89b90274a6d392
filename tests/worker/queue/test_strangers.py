"""A job has one owner and one end, whatever strangers write into a lane or beside a job."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from pixelkiln.jobs import Kiln, SpecError, keys
from pixelkiln.jobs.queue.record import FUNCTION, read_spec
from pixelkiln.worker.queue.claim import Progress
from pixelkiln.worker.queue.claims import CRASHES, LAPSES, Claims
from pixelkiln.worker.queue.dependents import MOST_LANES
from tests.worker.queue.farm import (
    DEMO,
    LANE,
    RESULT,
    Make,
    Submit,
    charged,
    ends,
    expire,
    poison,
    taken,
    took,
)


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


def test_no_poison_takes_back_the_lives_it_cost(claims: Claims, submit: Submit, kiln: Kiln) -> None:
    job_id = submit()
    for _ in range(2):
        assert kiln.status(job_id).state == "queued"
        claims.release(took(claims), crashed=True)
        kiln.redis.hdel(keys.JOB(job_id), "kiln_crashes", "kiln_lapses")  # as version 0.1 counted
    assert kiln.status(job_id).error.startswith("quarantined")


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
    claims.recover()
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
    claims.recover()
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


@pytest.mark.parametrize("then", ["is reaped", "is renewed", "is adopted"])
@pytest.mark.parametrize("owner", ["nothing", "a stranger", "a list", "a fake execution"])
def test_a_job_whose_owner_was_forged_comes_back(
    claims: Claims, submit: Submit, kiln: Kiln, owner: str, then: str
) -> None:
    """Else it would stay started for good: nobody's, in no lane, without a lease."""
    job_id = submit()
    claim = took(claims)
    kiln.redis.delete(f"kiln:own:{job_id}")
    if owner == "a stranger":
        kiln.redis.set(f"kiln:own:{job_id}", "x")
    elif owner == "a list":
        kiln.redis.rpush(f"kiln:own:{job_id}", "x")
    elif owner == "a fake execution":
        kiln.redis.set(f"kiln:own:{job_id}", "x")
        kiln.redis.hset(f"rq:execution:{job_id}:x", mapping={"id": "x", "lane": LANE})
    assert not claims.holds(claim)
    assert not claims.finish(claim, RESULT, 1.0)
    if then == "is adopted":
        assert claims.adopt(claim) == "owned"
        assert claims.holds(claim)
    elif then == "is reaped":
        expire(kiln, claim)
        assert claims.reap() == [job_id]
        assert taken(claims) == job_id
    else:
        assert claims.renew([(claim, None)]) == set()
        assert claims.finish(claim, RESULT, 1.0)
        assert kiln.status(job_id).state == "finished"


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
    assert not claims.strays.abandoned(job_id)
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


@pytest.mark.parametrize("end", ["canceled", "finished", "queued", "taken again", "lapsed"])
def test_no_execution_can_be_forged_that_pays_its_client_back(
    make_claims: Make, submit: Submit, kiln: Kiln, end: str
) -> None:
    claims, other = make_claims("worker-1"), make_claims("worker-2")
    kiln.redis.hset("kiln:clocks", "mallory", 500)
    job_id = submit(client="mallory")
    claim = claims.take(DEMO, estimate=0.5)
    assert claim is not None
    forged = {"estimate": "400", "created_at": "1e12", "lane": claim.lane.name, "worker_name": "x"}
    for execution in (claim.execution, "fake"):
        kiln.redis.hset(f"rq:execution:{job_id}:{execution}", mapping=forged)
    if end == "taken again":
        kiln.redis.set(f"kiln:own:{job_id}", "fake")
        kiln.redis.hset(f"rq:job:{job_id}", "status", "queued")
        poison(kiln, job_id, None, claim.lane.name)
        other.look(due=True)
        assert other.take(DEMO, estimate=0.5) is not None
    elif end != "lapsed":
        kiln.redis.hset(f"rq:job:{job_id}", "status", end)
    if end == "lapsed":
        expire(kiln, claim)
        other.reap()
    else:
        claims.renew([(claim, None)])
    assert charged(kiln, "mallory") >= 500


@pytest.mark.parametrize("certain", [True, False])
def test_no_job_says_itself_that_it_is_rendered(
    claims: Claims, submit: Submit, kiln: Kiln, certain: bool
) -> None:
    """Else it could take down worker after worker, and never be quarantined."""
    job_id = submit()
    for _ in range(CRASHES if certain else LAPSES):
        claim = took(claims)
        kiln.redis.hset(f"rq:job:{job_id}", "meta", Progress("delivering").wire())
        if certain:
            claims.release(claim, crashed=True)
        else:
            expire(kiln, claim)
            claims.reap()
    assert kiln.status(job_id).error.startswith("quarantined")


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


@pytest.mark.parametrize("lane", ["", "kiln:x", "x" * 2000])
def test_a_take_is_repeated_though_its_execution_was_rewritten(
    claims: Claims, submit: Submit, kiln: Kiln, lane: str
) -> None:
    job_id = submit()
    first = claims.take(DEMO, execution="e")  # its reply was lost
    kiln.redis.hset(f"rq:execution:{job_id}:e", "lane", lane)
    again = claims.take(DEMO, execution="e")
    assert first is not None
    assert again is not None
    assert (again.job_id, again.lane) == (job_id, first.lane)
