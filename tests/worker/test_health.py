"""What a worker does about failures and slow jobs, and when it is unwell."""

from __future__ import annotations

import pytest

from jobs import Settings
from jobs.spec import RenderSpec
from jobs.storage import Bucket
from worker.claims import Claim
from worker.engines.engine import CheckpointError
from worker.health import DEGRADED, FAILURES, SWAPPED, Health
from worker.models import installed
from worker.references import References
from worker.renderer import Renderer
from worker.stall import Stall

CLAIM = Claim("job-1", "e1", "kiln:demo:bf16:normal:default")
SPEC = RenderSpec.parse({"prompt": "a fox", "model": "demo", "width": 64, "height": 64, "seed": 1})


def renderer(settings: Settings, bucket: Bucket, stall: Stall) -> Renderer:
    return Renderer(installed(settings.models_dir), settings, References(bucket), stall)


def test_failures_in_a_row_ask_for_a_canary_once_each_time() -> None:
    health = Health()
    for _ in range(2):
        for _ in range(FAILURES - 1):
            health.failed()
            assert health.cure() is None
        health.failed()
        assert [health.cure(), health.cure()] == ["canary", None]  # the second after a job that was refused


def test_degraded_jobs_are_answered_once_each_time() -> None:
    health = Health()
    answers = []
    for _ in range(3 * DEGRADED):
        health.rendered("size", [1.0], SWAPPED)
        answers += [health.cure(), health.cure()]
    assert [one for one in answers if one] == ["trim", "reload", "stop"]


def test_a_load_that_fails_is_the_checkpoints_fault_not_the_jobs(settings: Settings, bucket: Bucket) -> None:
    odd = settings.model_copy(update={"arithmetic": "unheard of"})
    renders = renderer(odd, bucket, Stall(900.0))
    with pytest.raises(CheckpointError, match="KeyError: 'unheard of'"):
        renders.render(CLAIM, SPEC, 0.0, lambda step: True)
    assert renders.unwell is None
