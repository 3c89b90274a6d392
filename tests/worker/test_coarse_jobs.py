"""A draft on its whole way: what is told of it, what is measured, and what its record names."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from PIL import Image

from pixelkiln.jobs import Kiln
from pixelkiln.worker.queue.claim import Claim, Progress
from pixelkiln.worker.service import Service
from tests.worker.working import Work, all_ended

DRAFT = {"steps": 6, "coarse_steps": 4, "width": 128, "height": 128}
TOLD = "6 of 28 steps, the first 4 coarse"


def test_a_draft_is_rendered_told_and_named(
    service: Service, submit: Callable[..., str], work: Work, kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Progress] = []
    report = service._heartbeat.report

    def watched(claim: Claim, progress: Progress) -> None:
        seen.append(progress)
        report(claim, progress)

    monkeypatch.setattr(service._heartbeat, "report", watched)
    draft, again, plain = submit(seed=1, **DRAFT), submit(seed=1, **DRAFT), submit(seed=1)
    work(all_ended(kiln, [draft, again, plain]))
    sidecar = kiln.sidecar(draft)
    assert (sidecar.model["steps"], sidecar.model["coarse_steps"]) == ("6", "4")
    assert sidecar.model["off_recipe"] == TOLD
    assert len(sidecar.timings.steps) == 6
    assert sidecar.png.sha256 == kiln.sidecar(again).png.sha256
    assert not {"coarse_steps", "off_recipe"} & kiln.sidecar(plain).model.keys()
    png = kiln.bucket.get(sidecar.png.key)
    assert png is not None
    parameters = Image.open(io.BytesIO(png)).info["parameters"]
    assert "\nSteps: 6, Coarse steps: 4, Sampler: flash" in parameters
    rendering = [one for one in seen if one.phase == "rendering"]
    assert [(one.step, one.steps, one.off_recipe) for one in rendering[:7]] == [
        (step, 6, TOLD) for step in range(7)
    ]
    assert {one.off_recipe for one in rendering[14:]} == {""}


def test_coarse_steps_are_no_measure_of_full_ones(
    service: Service, submit: Callable[..., str], work: Work, kiln: Kiln
) -> None:
    ids = [submit(**DRAFT), submit(width=128, height=128)]
    work(all_ended(kiln, ids))
    timed = [one[0] for one in service._renderer._watchdog._slowest if isinstance(one, tuple)]
    assert sorted(one for one in timed if one != "report") == ["coarse step", "prompt", "step"]


def test_a_status_tells_what_departs_from_the_recipe(kiln: Kiln, submit: Callable[..., str]) -> None:
    job_id = submit()
    kiln.redis.hset(
        f"rq:job:{job_id}",
        mapping={"status": "started", "meta": Progress("rendering", 1, 6, off_recipe=TOLD).wire()},
    )
    assert kiln.status(job_id).off_recipe == TOLD
    assert kiln.status(job_id).as_dict()["off_recipe"] == TOLD
    for odd in (json.dumps({"phase": "rendering", "off_recipe": ["\x1b"]}), json.dumps({"step": 1})):
        kiln.redis.hset(f"rq:job:{job_id}", "meta", odd)
        assert "\x1b" not in kiln.status(job_id).off_recipe


def test_a_status_tells_how_long_the_last_step_took(kiln: Kiln, submit: Callable[..., str]) -> None:
    job_id = submit()
    for told, seconds in (
        (Progress("rendering", 3, 28, each=1.23456).wire(), 1.235),
        (Progress("loading").wire(), 0.0),  # as older workers write it throughout
        ('{"each": NaN}', 0.0),
        ('{"each": -1}', 0.0),
        ('{"each": "1"}', 0.0),
        ('{"each": 1e99}', 0.0),
    ):
        kiln.redis.hset(f"rq:job:{job_id}", mapping={"status": "started", "meta": told})
        assert kiln.status(job_id).each == seconds


def test_progress_without_a_departure_is_as_it_was() -> None:
    assert json.loads(Progress("rendering", 1, 28).wire()) == {"phase": "rendering", "step": 1, "steps": 28}
