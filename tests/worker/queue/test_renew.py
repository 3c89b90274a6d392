"""Leases are renewed, progress is published, and a worker learns what it lost."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Kiln
from pixelkiln.jobs.queue.record import RenderJob
from pixelkiln.worker.queue.claim import Progress
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.farm import (
    RESULT,
    Make,
    Submit,
    expire,
    taken,
    took,
)


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
