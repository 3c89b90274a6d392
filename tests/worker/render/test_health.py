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
from pixelkiln.worker.queue.claim import Claim
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


def cures(health: Health, jobs: int, seconds: float, swap_ins: int) -> list[str]:
    answers = []
    for _ in range(jobs):
        health.rendered("size", [seconds] * 28, swap_ins)
        answers += [health.cure(), health.cure()]
    return [one for one in answers if one]


def test_slow_jobs_on_a_machine_that_swaps_are_answered_once_each_time() -> None:
    health = Health()
    health.rendered("size", [1.0] * 28, 0)
    assert cures(health, 3 * DEGRADED, 3.0, SWAPPED) == ["trim", "reload", "stop"]


def test_a_mac_in_use_swaps_and_is_no_illness() -> None:
    """Swap-ins are the whole machine's: at normal speed they are other programs'."""
    health = Health()
    events = [health.rendered("size", [1.0] * 28, 100 * 2**20) for _ in range(9)]
    assert [health.cure() for _ in events] == [None] * 9
    assert events == [[{"event": "swapping", "bytes": 100 * 2**20}]] * 9  # told, all the same


def test_low_power_mode_is_usual_after_some_jobs() -> None:
    health = Health()
    for _ in range(40):
        assert health.rendered("size", [1.0] * 28, 0) == []
    told = [bool(health.rendered("size", [2.5] * 28, 0)) for _ in range(20)]
    assert told[:4] == [True] * 4
    assert told[-4:] == [False] * 4  # it is what this machine does now
    assert health.cure() is None
    assert cures(health, DEGRADED, 6.0, SWAPPED) == ["trim"]  # by the new measure


def test_one_job_that_is_well_ends_the_row() -> None:
    health = Health()
    health.rendered("size", [1.0] * 28, 0)
    assert cures(health, DEGRADED - 1, 3.0, SWAPPED) == []
    health.rendered("size", [1.0] * 28, SWAPPED)
    assert cures(health, DEGRADED - 1, 3.0, SWAPPED) == []


def test_a_load_that_fails_is_the_checkpoints_fault_not_the_jobs(settings: Settings, bucket: Bucket) -> None:
    odd = settings.model_copy(update={"arithmetic": "unheard of"})
    renders = renderer(odd, bucket, Watchdog(900.0))
    with pytest.raises(CheckpointError, match="KeyError: 'unheard of'"):
        renders.render(CLAIM, SPEC, 0.0, lambda step: True)
    assert renders.unwell is None
