"""Jobs are given back, adopted and reclaimed, and fail where that happened too often."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.worker.queue.claim import Progress
from pixelkiln.worker.queue.claims import CRASHES, LAPSES, Claims
from tests.worker.queue.farm import (
    DEMO,
    RESULT,
    Make,
    Submit,
    ends,
    expire,
    taken,
    took,
    traces,
)


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


@pytest.mark.parametrize("told", ["by the next take", "by the heartbeat", "at the next start"])
def test_what_is_handed_over_is_blamed_for_nothing(
    make_claims: Make, submit: Submit, kiln: Kiln, told: str
) -> None:
    """Each life takes the innocent, hands it over and dies of the poison behind it."""
    innocent, poison = submit("innocent"), submit("poison")
    reaper, done = make_claims("reaper"), Progress("delivering", cost=1.0)
    for life in range(1, LAPSES + 1):
        claims = make_claims(f"victim-{life}")
        first = took(claims)
        assert (first.job_id, first.crashes) == (innocent, 0)
        if told == "by the heartbeat":
            claims.renew([(first, done)])
        elif told == "at the next start":
            assert make_claims("reborn").adopt(first, 1.0) == "owned"
        second = claims.take(DEMO, handed=[(first, done)] if told == "by the next take" else [])
        assert second is not None
        assert (second.job_id, second.crashes) == (poison, life - 1)
        for claim in (second, first):
            expire(kiln, claim)
            reaper.reap()
    assert kiln.status(poison).error.startswith("quarantined")
    assert kiln.status(innocent).state == "queued"


def test_reaping_again_after_it_was_cut_off_quarantines_all_the_same(
    claims: Claims, submit: Submit, kiln: Kiln
) -> None:
    """Between the script and the settlement the reaper may die; the next one finds the job still owned."""
    job_id = submit()
    kiln.redis.hset(keys.BLAME(job_id), "lapses", LAPSES - 1)
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
