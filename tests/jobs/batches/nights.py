"""Nights to report of: jobs of a farm in memory, with what became of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pixelkiln import RenderSpec
from pixelkiln.jobs import keys
from pixelkiln.jobs.batches.report.facts import Facts, Told, gather
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.testing.placeholder import picture, png_of, sidecar_of
from pixelkiln.testing import FakeKiln

SCRIPT = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
ARABIC = "ثعلب أحمر في الثلج"


def spec(prompt: str = "a fox", **fields: Any) -> RenderSpec:
    small = {"model": "demo", "width": 64, "height": 64, "seed": 1}
    return RenderSpec.parse({**small, "prompt": prompt, **fields})


class Night:
    """Jobs of a batch in memory: each is submitted, and then made what the test wants."""

    def __init__(self) -> None:
        self.kiln = FakeKiln()
        self.entries: list[tuple[int, str, RenderSpec]] = []

    def add(self, wanted: RenderSpec, end: str = "finished") -> str:
        number = len(self.entries) + 1
        job_id = f"job-{number}"
        if end == "failed":
            self.kiln.next_fails("out of memory; take a smaller size")
        if end in ("waiting", "cancelled"):
            self.kiln.next_waits()
        self.kiln.submit(wanted, id=job_id)
        self.entries.append((number, job_id, wanted))
        if end == "cancelled":
            self.kiln.cancel([job_id])
        self.kiln.work()
        return job_id

    def forget(self, job_id: str) -> None:
        """Redis' record of it expires."""
        del self.kiln._farm._jobs[job_id]

    def facts(self) -> Facts:
        return gather(self.kiln, "night", self.entries)


def told(number: int, wanted: RenderSpec, *, worker: str, begin: str, end: str, **timings: Any) -> Told:
    """A finished row with timings of the test's choice; times as ISO 8601."""
    from pixelkiln.jobs.batches.report.facts import _moment
    from pixelkiln.jobs.queue.status import JobStatus

    image = picture(wanted)
    status = JobStatus(
        f"job-{number}", "finished", worker=worker, submitted_at=begin, started_at=begin, ended_at=end
    )
    made = sidecar_of(status, wanted, image, png_of(image), 2)
    made = made.model_copy(
        update={
            "timings": made.timings.model_copy(update=timings),
            "host": {"name": f"{worker}.local", "worker": worker, "chip": "M4", "memory": "1000"},
        }
    )
    return Told(
        number,
        status.id,
        wanted,
        "finished",
        attempts=1,
        started=_moment(begin),
        ended=_moment(end),
        worker=worker,
        sidecar=made,
        stored=True,
    )


def change(night: Night, job_id: str, **fields: Any) -> None:
    """Store another sidecar for a job than the one there."""
    key = keys.SIDECAR("default", job_id)
    there = Sidecar.model_validate_json(night.kiln._memory.objects[key])
    night.kiln._memory.objects[key] = there.model_copy(update=fields).model_dump_json().encode()


def restate(night: Night, job_id: str, **fields: Any) -> None:
    """Let Redis tell something else of a job."""
    job = night.kiln._farm._jobs[job_id]
    job.status = replace(job.status, **fields)
