"""What is known of the farm at one moment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pixelkiln.jobs.batches.standing import BatchStatus
from pixelkiln.jobs.queue.farm import Farm, WorkerStatus
from pixelkiln.jobs.queue.status import JobStatus

_RENDERS = re.compile(r"(?:gone; was )?rendering ([A-Za-z0-9][A-Za-z0-9_-]{0,63})(?![A-Za-z0-9_-])")


def told_job(worker: WorkerStatus) -> str:
    """The id of the job that a worker said it renders, or rendered when it was gone; '' for none."""
    found = _RENDERS.match(worker.state)
    return found[1] if found else ""


def by_interest(workers: Iterable[WorkerStatus]) -> list[WorkerStatus]:
    """Those that are gone first, then those that take no jobs, those that render, the others."""

    def rank(worker: WorkerStatus) -> tuple[int, str]:
        if worker.gone:
            return 0, worker.name
        if worker.state.startswith("rendering ") or worker.state.startswith("idle"):
            return (2 if told_job(worker) else 3), worker.name
        return 1, worker.name

    return sorted(workers, key=rank)


@dataclass(frozen=True, slots=True)
class Place:
    """Which picture of which batch a job is."""

    batch: str
    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.batch} {self.number:,}/{self.of:,}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The farm, this client's batches, and what failed last."""

    at: float  # seconds since 1970
    farm: Farm
    batches: tuple[BatchStatus, ...] = ()  # the newest first; what Redis knows of them
    unread: int = 0  # batches that were not looked through yet: their counts come with a later look
    failures: tuple[JobStatus, ...] = ()  # of all clients, the newest first
    held: Mapping[str, tuple[JobStatus, ...]] = field(
        default_factory=dict
    )  # by worker; what it renders first
    places: Mapping[str, Place] = field(default_factory=dict)  # of these and of the failures, by id
    prompts: Mapping[str, str] = field(default_factory=dict)
    previews: Mapping[str, bytes] = field(default_factory=dict)  # WebP, by id

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, without pictures."""
        workers = [
            worker.as_dict() | {"jobs": [self._job(one) for one in self.held.get(worker.name, ())]}
            for worker in self.farm.workers
        ]
        return {
            "lanes": [asdict(lane) for lane in self.farm.lanes],
            "workers": workers,
            "batches": [batch.as_dict() for batch in self.batches],
            "failures": [self._job(one) for one in self.failures],
        }

    def _job(self, status: JobStatus) -> dict[str, Any]:
        place = self.places.get(status.id)
        return status.as_dict() | {
            "prompt": self.prompts.get(status.id, ""),
            "batch": place.batch if place else "",
        }
