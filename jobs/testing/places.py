"""Where jobs stand in memory, and the manifests of batches: what MemoryQueue is built on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.queue import Standing, Stood
from pixelkiln.jobs.queue.status import JobStatus, State
from pixelkiln.jobs.spec import Priority, RenderSpec

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a test wants to become of a job."""

    error: str = ""  # why it fails; '': it does not
    steps: int | None = None
    held: bool = False  # no worker takes it


NO_PLAN = Plan()


@dataclass(slots=True)
class Job:
    """One job: what it asks for, how it fares, and what shall become of it."""

    spec: RenderSpec
    status: JobStatus
    plan: Plan

    def change(self, **fields: object) -> None:
        """Its status has other values from now on."""
        self.status = replace(self.status, **fields)  # type: ignore[arg-type]

    @property
    def stood(self) -> Stood:
        """How it stands."""
        return "held" if self.status.held else self.status.state

    @property
    def touched(self) -> str:
        """When something last happened to it."""
        return self.status.ended_at or self.status.started_at or self.status.submitted_at


@dataclass(slots=True)
class MemoryPlaces:
    """See Queue. Time passes by events: each takes a second."""

    away: bool = field(default=False, kw_only=True)
    _jobs: dict[str, Job] = field(default_factory=dict, kw_only=True)  # the oldest first
    _manifests: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict, kw_only=True)
    _asked: dict[tuple[str, str], str] = field(default_factory=dict, kw_only=True)
    _moment: datetime = field(default=BEGIN, kw_only=True)

    def standing(self, job_ids: Sequence[str], client: str = "") -> dict[str, Standing | None]:
        """How many stand."""
        self._answer()
        found: dict[str, Standing | None] = {}
        for job_id in job_ids:
            job = self._of(job_id, client)
            if job is None:
                found[job_id] = None
            else:
                now = job.status
                found[job_id] = Standing(job.stood, now.started_at, now.ended_at, bool(now.suspicious))
        return found

    def note(self, client: str, key: str, asked: str) -> str:
        """Keep what was asked for under a key."""
        self._answer()
        before = self._asked.get((client, key), "")
        self._asked[client, key] = before or asked
        return before

    def retry(self, job_ids: Sequence[str], client: str, *, again: bool) -> dict[str, Stood]:
        """Let jobs that ended wait again."""
        ended: tuple[Stood, ...] = ("failed", "cancelled", "finished") if again else ("failed", "cancelled")

        def back(job: Job) -> None:
            job.plan = NO_PLAN
            job.change(state="queued", error="", result=None, worker="", started_at="", ended_at="")
            job.change(submitted_at=self._stamp(), suspicious=())
            self._jobs[job.status.id] = self._jobs.pop(job.status.id)  # at the end

        return {one: self._placed(one, client, ended, back) for one in job_ids}

    def hold(self, job_ids: Sequence[str], client: str) -> dict[str, Stood]:
        """Let the worker take none that waits."""
        return {
            one: self._placed(one, client, ("queued",), lambda job: job.change(held=True)) for one in job_ids
        }

    def free(self, job_ids: Sequence[str], client: str) -> dict[str, Stood]:
        """Let held jobs wait again."""

        def back(job: Job) -> None:
            job.change(held=False)
            self._jobs[job.status.id] = self._jobs.pop(job.status.id)

        return {one: self._placed(one, client, ("held",), back) for one in job_ids}

    def move(self, job_ids: Sequence[str], client: str, priority: Priority) -> dict[str, Stood]:
        """Give those that wait another priority."""

        def moved(job: Job) -> None:
            job.spec = job.spec.model_copy(update={"priority": priority})
            job.change(lane=job.spec.lane.name)

        return {one: self._placed(one, client, ("queued", "held"), moved) for one in job_ids}

    def recent(
        self,
        client: str,
        states: Collection[State],
        limit: int,
        since: str,
        before: tuple[str, str] | None = None,
    ) -> list[tuple[str, str]]:
        """The newest jobs."""
        self._answer()
        found = [
            (job.touched, job_id)
            for job_id, job in self._jobs.items()
            if client in ("", job.spec.client) and job.status.state in states and job.touched >= since
        ]
        return [one for one in sorted(found, reverse=True) if before is None or one < before][:limit]

    def finished(self, lanes: Sequence[str], limit: int) -> list[str]:
        """Ids of those that finished last."""
        self._answer()
        found = [
            (job.status.ended_at, job_id)
            for job_id, job in self._jobs.items()
            if job.status.state == "finished" and job.status.lane in lanes
        ]
        return [job_id for _, job_id in sorted(found, reverse=True)[:limit]]

    def place(self, job_id: str) -> tuple[int, int] | None:
        """A waiting job's place in its lane, and how many wait there."""
        self._answer()
        job = self._jobs.get(job_id)
        lane = Lane.parse(job.status.lane) if job else None
        waiting = [
            one for one, other in self._jobs.items() if other.spec.lane == lane and other.stood == "queued"
        ]
        return (waiting.index(job_id) + 1, len(waiting)) if job_id in waiting else None

    def told(self, wait: float) -> Generator[tuple[str, str] | None]:
        """Silence: its events can be asked for."""
        while True:
            time.sleep(wait)
            yield None

    def manifest(self, client: str, name: str) -> tuple[int, bytes] | None:
        """Revision and manifest of a batch."""
        self._answer()
        return self._manifests.get((client, name))

    def put_manifest(self, client: str, name: str, body: bytes, revision: int) -> bool:
        """Keep a manifest as the one after `revision`."""
        self._answer()
        there, _ = self._manifests.get((client, name), (0, b""))
        if there != revision:
            return False
        self._manifests[client, name] = revision + 1, body
        return True

    def expect(self, client: str, name: str) -> None:
        """Nobody follows deadlines here: who asks is told."""
        self._answer()

    def foreseen(self, client: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Nothing: nobody follows deadlines here."""
        self._answer()
        return {}

    def batches(self, client: str) -> dict[str, int]:
        """Names of a client's batches, the newest first, and the revisions of their manifests."""
        self._answer()
        mine = [(name, found[0]) for (whose, name), found in self._manifests.items() if whose == client]
        return dict(reversed(mine))

    def previews(self, jobs: Mapping[str, str]) -> dict[str, bytes]:
        """None: a gradient is there at once."""
        self._answer()
        return {}

    def _of(self, job_id: str, client: str) -> Job | None:
        """A job of a client, or '' for any."""
        job = self._jobs.get(job_id)
        return job if job and client in ("", job.spec.client) else None

    def _placed(self, job_id: str, client: str, of: tuple[Stood, ...], act: Callable[[Job], None]) -> Stood:
        self._answer()
        job = self._jobs.get(job_id)
        if job is None:
            return "unknown"
        if client not in ("", job.spec.client):
            return "foreign"
        was = job.stood
        if was in of:
            act(job)
        return was

    def _answer(self) -> None:
        if self.away:
            raise NotReadyError("Redis in memory is away, as the test wants it")

    def _stamp(self) -> str:
        """The moment of an event, which no other has."""
        self._moment += timedelta(seconds=1)
        return written(self._moment)


def written(moment: datetime) -> str:
    """As RQ writes it: UTC, ISO 8601."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
