"""What is told: one JSON object about a job, or a batch, that has ended."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixelkiln.jobs.batches.standing import counted
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.queue import Standing
from pixelkiln.jobs.queue.status import JobStatus

_NAMESPACE = uuid.UUID("3d9f7a52-3f0b-5f0e-9e55-6f0f4f2e9a1c")  # of the ids of events


@dataclass(frozen=True, slots=True)
class Event:
    """One end. Its id follows from what ended and when: told again, it is the same."""

    id: str
    body: str  # JSON

    @classmethod
    def of(cls, kind: str, about: str, ended: str, told: Mapping[str, Any]) -> Event:
        """The event of a kind about a job or batch that ended at a moment."""
        name = str(uuid.uuid5(_NAMESPACE, f"{kind} {about} {ended}"))
        return cls(name, json.dumps({"event": name, "type": kind, **told}))


def of_job(status: JobStatus, client: str, batch: str, prompt: str | None) -> Event:
    """The end of a job; with its prompt where there is one to tell."""
    told = {
        "id": status.id,
        "client": client,
        "batch": batch or None,
        "state": status.state,
        "error": status.error,
        "suspicious": list(status.suspicious),
        "png": status.result.png if status.result else None,
        "sidecar": status.result.sidecar if status.result else None,
        "submitted_at": status.submitted_at,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
    }
    prompts = {} if prompt is None else {"prompt": prompt}
    return Event.of("job.done", status.id, f"{status.state} {status.ended_at}", told | prompts)


@dataclass(frozen=True, slots=True)
class Settled:
    """A batch whose jobs have all ended."""

    client: str
    name: str
    standing: Mapping[str, Standing | None]  # by job; None for those that Redis has forgotten

    @property
    def end(self) -> str:
        """Which end of it this is: another one where a job was added, or tried again, and has ended since."""
        return (
            f"{len(self.standing)} {max((one.ended_at for one in self.standing.values() if one), default='')}"
        )

    def event(self) -> Event:
        """As it is told."""
        counts = counted(self.standing.values())
        states = ("finished", "failed", "cancelled")
        told = {
            "client": self.client,
            "batch": self.name,
            "state": "failed" if counts["failed"] or counts["cancelled"] else "finished",
            "total": len(self.standing),
            **{state: counts[state] for state in states},
            "forgotten": counts["missing"],
            "suspicious": sum(one is not None and one.suspicious for one in self.standing.values()),
            "ended_at": self.end.rpartition(" ")[2],
        }
        return Event.of("batch.done", f"{self.client}/{self.name}", self.end, told)


def client_of(status: JobStatus) -> str | None:
    """Whose job it is; None for one that is not of this farm."""
    lane = Lane.parse(status.lane)
    return None if lane is None else lane.client
