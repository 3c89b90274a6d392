"""Half a minute of faults at a fixed seed; `./kiln chaos` goes on for longer, with others."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.local.seaweed import Seaweed
from tests.chaos.run import Plan, Run


def test_every_job_is_accounted_for(tmp_path: Path) -> None:
    plan = Plan(seed=3, seconds=15, jobs=30, workers=2)
    with Seaweed(tmp_path / "s3") as store:
        outcome = Run(plan, tmp_path / "run", store).play()
    assert sum(outcome.states.values()) == plan.jobs
    assert not outcome.violations, outcome
