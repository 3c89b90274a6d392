"""How a batch fares, in numbers: counted in few words a job, so that ten thousand are counted at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import median
from typing import Any

from pixelkiln.jobs.batches.forecast import Outlook
from pixelkiln.jobs.queue.queue import Standing
from pixelkiln.jobs.queue.status import JobStatus

SAMPLE = 30  # finished jobs, the last ones, whose time tells how long the others will take


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """One batch at one moment; every entry is counted once."""

    name: str
    client: str
    created: str  # UTC, ISO 8601
    source: str  # name of the file
    paused: bool
    total: int
    queued: int  # among them those that are held, while the batch is paused
    started: int
    finished: int
    failed: int
    cancelled: int
    missing: int  # neither the queue nor the bucket knows them: never sent, or forgotten
    suspicious: int  # finished, and the checks found something in the picture
    unlisted: int  # that the file has no more, as it was last submitted; counted above, too
    each: float | None  # seconds a picture took a worker, of the last that finished
    eta: float | None  # seconds until all have ended; None where that cannot be told
    running: tuple[JobStatus, ...] = ()
    failures: tuple[JobStatus, ...] = ()  # some, the newest first
    deadline: Outlook | None = None  # whether it will be ready by then, where it has one

    @property
    def open(self) -> int:
        """Those that have not ended."""
        return self.queued + self.started

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def counted(standing: Iterable[Standing | None]) -> dict[str, int]:
    """How many are queued, started, finished, failed, cancelled and missing."""
    states = Counter("missing" if one is None else one.state for one in standing)
    waiting = states["queued"] + states["held"] + states["deferred"]
    names = ("started", "finished", "failed", "cancelled", "missing")
    return {"queued": waiting, **{name: states[name] for name in names}}


def pace(standing: Iterable[Standing | None]) -> float | None:
    """Seconds that a picture takes a worker: the median of the last ones that finished."""
    ended = sorted(
        ((one.ended_at, one.started_at) for one in standing if one is not None and one.state == "finished"),
        reverse=True,
    )
    spans = (_between(started, end) for end, started in ended[:SAMPLE])
    known = [span for span in spans if span is not None]
    return round(median(known), 3) if known else None


def eta(waiting: int, each: float | None, workers: int) -> float | None:
    """Seconds until so many jobs are done; None where nobody works, or nothing is known of the pace."""
    if not waiting:
        return 0.0
    return round(waiting * each / workers, 1) if workers and each is not None else None


def newest(standing: Mapping[str, Standing | None], state: str, most: int) -> Sequence[str]:
    """Ids of those in a state, the last that ended first."""
    found = [
        (one.ended_at, job_id) for job_id, one in standing.items() if one is not None and one.state == state
    ]
    return [job_id for _, job_id in sorted(found, reverse=True)[:most]]


def _between(started: str, ended: str) -> float | None:
    try:
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return None
