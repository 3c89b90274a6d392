"""What became of each job of a batch: Redis and the bucket are asked, and where they disagree it is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import CorruptObjectError
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.objects import Objects, get_sidecar

State = Literal["finished", "failed", "cancelled", "waiting"]
STATES: tuple[State, ...] = ("finished", "failed", "cancelled", "waiting")

THREADS = 8  # that ask the bucket
PAGE = 500  # jobs that Redis is asked for at once
UNKNOWN = "neither Redis nor the bucket knows it: it was never sent, or its record has expired"


@dataclass(frozen=True, slots=True)
class Told:
    """One row of a batch, and what became of it."""

    number: int  # of the row, from 1
    id: str
    spec: RenderSpec  # as it ran, where that is known; else as it was asked for
    state: State
    cause: str | None = None  # why it failed, in one line; of one that is at work, what it is at
    attempts: int = 0
    enqueued: datetime | None = None  # with a zone, as the two below
    started: datetime | None = None  # its last attempt
    ended: datetime | None = None  # that is: rendered, failed or cancelled
    worker: str = ""
    sidecar: Sidecar | None = None
    suspicious: tuple[str, ...] = ()  # what the checks found in its picture
    stored: bool = False  # picture and sidecar are in the bucket

    @property
    def engine(self) -> str:
        """Its `model:quantization`."""
        return f"{self.spec.model}:{self.spec.quantization}"


class Disagreement(NamedTuple):
    """Where Redis and the bucket do not tell the same of a job."""

    id: str
    says: str  # in one line


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report of a batch tells."""

    name: str
    client: str
    made: datetime  # when this was asked, with a zone
    told: tuple[Told, ...]  # in the order of their numbers
    redis: dict[str, int]  # how many Redis has in each of its states; 'unknown': of which it has no record
    bucket: int  # how many pictures of these, with their sidecars, the bucket holds
    disagreements: tuple[Disagreement, ...] = ()

    @property
    def totals(self) -> dict[State, int]:
        """How many rows ended, or wait, as what; together they are all rows."""
        counts = Counter(one.state for one in self.told)
        return {state: counts[state] for state in STATES}

    def of(self, state: State) -> list[Told]:
        """The rows in one state."""
        return [one for one in self.told if one.state == state]


def gather(
    kiln: Kiln, name: str, entries: Sequence[tuple[int, str, RenderSpec]], *, made: datetime | None = None
) -> Facts:
    """What became of `entries` (number, job id, spec) of the batch `name`.

    A row's state is Redis' word, as `kiln status` tells it; of a job whose record has expired it is the
    bucket's. One that neither knows has failed. Raises NotReadyError where one of them does not answer.
    """
    ids = [job_id for _, job_id, _ in entries]
    statuses: dict[str, JobStatus | None] = {}
    for start in range(0, len(ids), PAGE):
        statuses |= kiln.queue.statuses(ids[start : start + PAGE], kiln.settings.client)
    with ThreadPoolExecutor(THREADS) as threads:
        bucket = kiln.bucket
        stored = list(threads.map(lambda entry: _look(bucket, entry[2].client, entry[1]), entries))
    late = [  # Redis was asked first: these may have ended between the two questions
        job_id
        for (_, job_id, _), found in zip(entries, stored, strict=True)
        if found.whole and (status := statuses[job_id]) and not status.ended
    ]
    statuses |= kiln.queue.statuses(late, kiln.settings.client) if late else {}
    told, disagreements = [], []
    for entry, found in zip(entries, stored, strict=True):
        status = statuses[entry[1]]
        told.append(_tell(*entry, status, found))
        if says := _disagree(entry[2], status, found):
            disagreements.append(Disagreement(entry[1], says))
    return Facts(
        name=name,
        client=kiln.settings.client,
        made=made or datetime.now(UTC),
        told=tuple(sorted(told, key=lambda one: one.number)),
        redis=dict(Counter(status.state if status else "unknown" for status in statuses.values())),
        bucket=len({entry[1] for entry, found in zip(entries, stored, strict=True) if found.whole}),
        disagreements=tuple(disagreements),
    )


class _Stored(NamedTuple):
    """What the bucket holds of a job."""

    sidecar: Sidecar | None
    fault: str  # what is wrong with it; '' where nothing is, or nothing is there

    @property
    def whole(self) -> bool:
        return self.sidecar is not None and not self.fault


def _look(bucket: Objects, client: str, job_id: str) -> _Stored:
    try:
        sidecar = get_sidecar(bucket, client, job_id)
    except CorruptObjectError as error:
        return _Stored(None, plain(str(error)))
    if sidecar is None:
        return _Stored(None, "")
    picture = bucket.head(sidecar.png.key)
    if picture is None:
        return _Stored(sidecar, "its sidecar is in the bucket, its picture is not")
    if picture.size != sidecar.png.bytes:
        return _Stored(
            sidecar, f"its picture is {picture.size:,} bytes, its sidecar says {sidecar.png.bytes:,}"
        )
    return _Stored(sidecar, "")


def _tell(number: int, job_id: str, spec: RenderSpec, status: JobStatus | None, found: _Stored) -> Told:
    sidecar = found.sidecar
    if status is None and found.whole and sidecar is not None:
        status = JobStatus.of_sidecar(sidecar, "")
    if status is None:
        return Told(number, job_id, spec, "failed", found.fault or UNKNOWN, sidecar=sidecar)
    state: State = "waiting"
    cause: str | None = None
    if status.state == "queued" or status.state == "started":
        at = [status.phase or "", f"{status.step}/{status.steps}" if status.steps else ""]
        cause = " ".join(filter(None, at)) or None
    else:
        state = status.state
        cause = status.error or ("no reason is known" if state == "failed" else None)
    at_end = sidecar is not None and status.state == "finished"
    return Told(
        number=number,
        id=job_id,
        spec=sidecar.spec if sidecar is not None and at_end else spec,
        state=state,
        cause=cause,
        attempts=status.attempt,
        enqueued=_moment(status.submitted_at),
        started=_moment(sidecar.job.started_at if sidecar and at_end else status.started_at),
        ended=_moment(sidecar.job.rendered_at if sidecar and at_end else status.ended_at),
        worker=plain(sidecar.host.get("worker", "")) if sidecar and at_end else status.worker,
        sidecar=sidecar if at_end else None,
        suspicious=tuple(plain(one) for one in sidecar.checks.warnings) if sidecar and at_end else (),
        stored=found.whole,
    )


def _disagree(spec: RenderSpec, status: JobStatus | None, found: _Stored) -> str:
    """What does not go together; '' where all does."""
    state = status.state if status else None
    if found.fault:
        return found.fault
    if found.sidecar is None:
        return "Redis has it finished; the bucket has no picture of it" if state == "finished" else ""
    if status is not None and status.phase == "delivering":
        return ""  # it is settled in this moment
    if state is not None and state != "finished":
        return f"Redis has it {state}; the bucket has its picture"
    if status is not None and status.result and status.result.sha256 != found.sidecar.png.sha256:
        return "Redis tells of another picture than the bucket's"
    asked = spec if spec.seed is not None else spec.model_copy(update={"seed": found.sidecar.spec.seed})
    if differs := asked.differs(found.sidecar.spec):
        return f"the bucket's picture is of another {', '.join(differs)} than was asked for"
    return ""


def _moment(text: str) -> datetime | None:
    """A time as records write it, with its zone; None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
