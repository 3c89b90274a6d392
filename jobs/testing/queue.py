"""A queue in memory, and the one worker that takes from it. Time passes by events: each takes a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import get_args

from PIL import Image

from pixelkiln.jobs import keys
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.control.orders import Order, Target, fingerprint
from pixelkiln.jobs.errors import CorruptObjectError, SpecError
from pixelkiln.jobs.known import same_job
from pixelkiln.jobs.queue.farm import Farm, LaneStatus, WorkerStatus
from pixelkiln.jobs.queue.pulse import Pulse
from pixelkiln.jobs.queue.queue import CancelOutcome, When, due_at
from pixelkiln.jobs.queue.status import JobStatus, Result, State
from pixelkiln.jobs.spec import Priority, Quantization, RenderSpec
from pixelkiln.jobs.storage.objects import get_committed
from pixelkiln.jobs.storage.pictures import read_picture
from pixelkiln.jobs.testing.bucket import MemoryBucket
from pixelkiln.jobs.testing.placeholder import picture, png_of, sidecar_of
from pixelkiln.jobs.testing.places import NO_PLAN, Job, MemoryPlaces, Plan, written

WORKER = "fake-1"
STEPS = 4  # of a picture, where neither its spec nor its plan says


@dataclass(slots=True)
class MemoryQueue(MemoryPlaces):
    """See Queue. Its one worker does one thing each time that `step` is called."""

    bucket: MemoryBucket
    key: bytes | None  # that the worker's orders are signed with
    plan: Plan = NO_PLAN  # of the next job that is added
    staffed: bool = True  # whether the worker is there
    _running: Job | None = None
    _leaving: bool = False
    _paused: set[str] = field(default_factory=set)

    def add(
        self,
        jobs: Sequence[tuple[str, RenderSpec]],
        batch: str | None,
        *,
        held: bool = False,
        not_before: When | None = None,
    ) -> list[bool]:
        """Enqueue each job that is not there yet; whether it was created."""
        self._answer()
        created = []
        for job_id, spec in jobs:
            created.append(job_id not in self._jobs)
            if created[-1]:
                due, stamp = due_at(not_before, self._moment), self._stamp()
                status = JobStatus(
                    job_id, "queued", spec.lane.name, held=held, not_before=due, submitted_at=stamp
                )
                self._jobs[job_id] = Job(spec, status, self.plan)
                self.plan = NO_PLAN
        return created

    def specs(self, job_ids: Sequence[str]) -> dict[str, RenderSpec | None]:
        """What those that are there ask for."""
        self._answer()
        return {job_id: self._jobs[job_id].spec for job_id in job_ids if job_id in self._jobs}

    def statuses(self, job_ids: Sequence[str], client: str = "") -> dict[str, JobStatus | None]:
        """How each fares."""
        self._answer()
        return {one: job.status if (job := self._of(one, client)) else None for one in job_ids}

    def cancel(self, job_ids: Sequence[str], client: str) -> dict[str, CancelOutcome]:
        """End jobs as cancelled; what each was."""
        self._answer()
        return {job_id: self._cancelled(job_id, client) for job_id in job_ids}

    def open_jobs(self, target: Target, client: str) -> list[str]:
        """Jobs that wait for, or are held by, a target."""
        self._answer()
        return [
            job_id
            for job_id, job in self._jobs.items()
            if not job.status.ended
            and client in ("", job.spec.client)
            and (
                str(target) in _targets(job.spec)
                or (target.kind == "worker" and job is self._running and target.covers(WORKER))
            )
        ]

    def farm(self) -> Farm:
        """What waits in each lane and what the worker does."""
        self._answer()
        counts = Counter((job.status.lane, job.status.state) for job in self._jobs.values())
        states: tuple[State, ...] = ("queued", "started", "finished", "failed")
        lanes = (
            LaneStatus(lane, *(counts[lane, state] for state in states))
            for lane in sorted({lane for lane, _ in counts})
        )
        return Farm(tuple(lanes), (self._told(),) if self.staffed else ())

    def held_by(self, workers: Sequence[str]) -> dict[str, list[str]]:
        """What the worker has, if it is named."""
        self._answer()
        running = [] if self._running is None else [self._running.status.id]
        return {worker: running if worker == WORKER else [] for worker in workers}

    def pulse(self, lanes: Sequence[str]) -> Pulse:
        """How long jobs have waited in these lanes; there are neither deadlines nor webhooks."""
        self._answer()
        found: dict[str, tuple[int, float]] = {}
        for one in (job.status for job in self._jobs.values()):
            if one.lane in lanes and one.state == "queued" and not one.held and not one.not_before:
                length, age = found.get(one.lane, (0, 0.0))
                since = (self._moment - datetime.fromisoformat(one.submitted_at)).total_seconds()
                found[one.lane] = length + 1, max(age, since)
        return Pulse(found)

    def served(self) -> set[str]:
        """Each `model:quantization` that the worker serves, while it is there."""
        return self.farm().served

    def give(self, order: Order, key: bytes) -> Order:
        """The order, obeyed."""
        self._answer()
        target = Target.parse(order.target)
        if order.verb == "pause":
            self._paused.add(order.target)
        elif order.verb == "resume":
            self._paused.discard(order.target)
        elif target.covers(WORKER):
            if order.now and self._running is not None:
                self._running.change(state="queued", phase=None, step=0, steps=0, worker="")
                self._running = None
            self._leaving = True
            self.staffed = self._running is not None
        self._stamp()
        return order.model_copy(update={"at": self._moment.timestamp()})

    def close(self) -> None:
        """Nothing is open."""

    def open_of(self, job_ids: Sequence[str]) -> list[str]:
        """Those of the jobs that have not ended."""
        return [one for one in job_ids if one in self._jobs and not self._jobs[one].status.ended]

    def start_worker(self) -> None:
        """Let a worker come where one was drained."""
        self.staffed, self._leaving = True, False

    def release(self, job_id: str | None) -> None:
        """Hold a job, or all, no more."""
        for job in self._jobs.values():
            if job_id in (None, job.status.id):
                job.plan = replace(job.plan, held=False)

    def step(self) -> bool:
        """Let the worker take a job, or bring the one it has a step on; False where it can do neither."""
        if self.away or self.bucket.away or not self.staffed:
            return False
        if self._running is None:
            return self._take()
        job = self._running
        try:
            self._go_on(job)
        except SpecError as error:  # of a reference, or of the id
            self._end(job, state="failed", error=str(error))
        if job.status.ended:
            self._running = None
            self.staffed = not self._leaving
        return True

    def _take(self) -> bool:
        """Take the oldest job of the highest priority that may be taken."""
        if self._leaving or self._resting():
            return False
        waiting = [
            job
            for job in self._jobs.values()
            if job.stood == "queued" and not job.plan.held and not self._paused & _targets(job.spec)
        ]
        if not waiting:
            return False
        now = written(self._moment)  # where all wait for a time, the first of these comes
        rank = get_args(Priority).index
        job = min(waiting, key=lambda job: (max(now, job.status.not_before), rank(job.spec.priority)))
        self._moment = max(self._moment, datetime.fromisoformat(job.status.not_before or now))
        attempt, stamp = job.status.attempt + 1, self._stamp()
        job.change(state="started", phase="loading", worker=WORKER, attempt=attempt, started_at=stamp)
        job.change(not_before="")
        self._running = job
        return True

    def _go_on(self, job: Job) -> None:
        """Loading, then each step of rendering, then delivering, then the end."""
        status, steps = job.status, job.plan.steps or job.spec.steps or STEPS
        if status.phase == "loading":
            self._references(job.spec)
            job.change(phase="rendering", steps=steps)
        elif job.plan.error:
            self._end(job, state="failed", error=job.plan.error)
        elif status.phase == "rendering" and status.step < steps:
            self._stamp()
            job.change(step=status.step + 1)
        elif status.phase == "rendering":
            job.change(phase="delivering")
        else:
            self._deliver(job, steps)

    def _deliver(self, job: Job, steps: int) -> None:
        """Picture and sidecar into the bucket, unless it has both; then the job has finished."""
        key = keys.SIDECAR(job.spec.client, job.status.id)
        try:
            before = get_committed(self.bucket, job.spec.client, job.status.id)
        except CorruptObjectError:
            before = None
        permit = self.bucket.get(keys.AGAIN(job.spec.client, job.status.id))
        if before is not None and permit != before.job.execution.encode():
            same_job(job.status.id, job.spec, before.spec)
            there = Result(before.png.key, key, before.png.sha256)
            self._end(job, state="finished", result=there, suspicious=before.suspicious)
            return
        references = self._references(job.spec)
        image = picture(job.spec, references[0] if references else None)
        png = png_of(image)
        ended = self._stamp()
        sidecar = sidecar_of(replace(job.status, ended_at=ended), job.spec, image, png, steps)
        self.bucket.put(sidecar.png.key, png, "image/png")
        self.bucket.put(key, sidecar.model_dump_json(indent=1).encode(), "application/json")
        made = Result(sidecar.png.key, key, sidecar.png.sha256)
        self._end(job, state="finished", result=made, suspicious=sidecar.suspicious)

    def _references(self, spec: RenderSpec) -> list[Image.Image]:
        """The reference pictures of a spec. Raises SpecError for one that nobody uploaded."""
        found = []
        for index, name in enumerate(spec.references):
            key = keys.REFERENCE(spec.client, name)
            body = self.bucket.get(key)
            if body is None:
                raise SpecError(
                    f"references.{index}",
                    f"{key} is not in the bucket; upload it with Kiln.upload or `kiln submit --ref`",
                )
            found.append(read_picture(body, f"references.{index}"))
        return found

    def _cancelled(self, job_id: str, client: str) -> CancelOutcome:
        job = self._jobs.get(job_id)
        if job is None:
            return "unknown"
        if client not in ("", job.spec.client):
            return "foreign"
        was = job.status.state
        if not job.status.ended:
            self._end(job, state="cancelled", held=False)
            if job is self._running:
                self._running = None
                self.staffed = not self._leaving
        return was

    def _end(self, job: Job, **fields: object) -> None:
        job.change(phase=None, step=0, steps=0, not_before="", ended_at=self._stamp(), **fields)

    def _resting(self) -> str:
        """Why the worker takes no jobs at all, if so."""
        kinds = sorted(one.kind for one in map(Target.parse, self._paused) if one.covers(WORKER))
        return f"the {kinds[0]} is paused" if kinds else ""

    def _told(self) -> WorkerStatus:
        state = f"takes no jobs: {resting}" if (resting := self._resting()) else "idle"
        return WorkerStatus(
            name=WORKER,
            state=f"rendering {self._running.status.id}" if self._running else state,
            serves=tuple(f"{model}:{bits}" for model in CATALOGUE for bits in get_args(Quantization)),
            host="fake",
            seen=written(self._moment),
            paused=tuple(sorted(self._paused)),
            orders=fingerprint(self.key),
        )


def _targets(spec: RenderSpec) -> set[str]:
    """What an order may name to mean a job."""
    return {"farm", f"client:{spec.client}", f"model:{spec.model}"}
