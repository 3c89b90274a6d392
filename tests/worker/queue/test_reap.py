"""`kiln reap`: the jobs of dead workers go back without a live one."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.worker.commands.app import app
from pixelkiln.worker.queue import heartbeat
from pixelkiln.worker.queue.claims import LEASE, Claims
from tests.worker.queue.farm import took


def test_a_dead_workers_job_is_queued_again(
    claims: Claims,
    submit: Callable[..., str],
    kiln: Kiln,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Settings, "load", classmethod(lambda cls: settings))
    monkeypatch.setattr(heartbeat, "GRACE", 0.0)
    dead, live = submit(), submit()
    for _ in range(2):
        claim = claims.take(["demo:bf16"])
        assert claim is not None
        if claim.job_id == dead:
            claims.connection.zadd("kiln:leases", {f"{dead}:{claim.execution}": 1})  # ran out long ago
    result = CliRunner().invoke(app, ["reap"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [f"{dead}  queued again"]
    assert kiln.status(dead).state == "queued"
    assert kiln.status(live).state == "started"


@pytest.mark.parametrize(("seconds", "state"), [(2 * LEASE, "started"), (65.0, "queued")])
def test_a_lease_further_ahead_than_leases_can_be_has_run_out(
    claims: Claims, submit: Callable[..., str], kiln: Kiln, seconds: float, state: str
) -> None:
    """It is from before Redis's clock was set back."""
    job_id, expired = submit(), submit()
    for end in (time.time() + seconds, 1.0):
        claim = took(claims)
        kiln.redis.zadd(keys.LEASES, {f"{claim.job_id}:{claim.execution}": end})
    assert sorted(claims.reap()) == sorted([expired, job_id] if state == "queued" else [expired])
    assert kiln.status(job_id).state == state
