"""What a worker does about failures and slow jobs, and when it is unwell."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Settings
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.engines.checkpoints.installed import installed
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claims import Claim
from pixelkiln.worker.render.health import DEGRADED, FAILURES, SWAPPED, Health
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.renderer import Renderer

CLAIM = Claim("job-1", "e1", Lane("demo", "bf16", "normal", "default"))
SPEC = RenderSpec.parse({"prompt": "a fox", "model": "demo", "width": 64, "height": 64, "seed": 1})


def renderer(settings: Settings, bucket: Bucket, watchdog: Watchdog) -> Renderer:
    return Renderer(installed(settings.models_dir), settings, References(bucket), watchdog)


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
    renders = renderer(odd, bucket, Watchdog(900.0))
    with pytest.raises(CheckpointError, match="KeyError: 'unheard of'"):
        renders.render(CLAIM, SPEC, 0.0, lambda step: True)
    assert renders.unwell is None
