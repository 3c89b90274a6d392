"""What Kiln asks of a queue: the farm's is a RedisQueue; a program's own tests have one in memory."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from pixelkiln.jobs.batches.windows import Windows
from pixelkiln.jobs.control.orders import Order, Target
from pixelkiln.jobs.queue.farm import Farm
from pixelkiln.jobs.queue.pulse import Pulse
from pixelkiln.jobs.queue.status import JobStatus, State
from pixelkiln.jobs.spec import Priority, RenderSpec

# What a job was when it was to be cancelled: 'queued' or 'started', and is cancelled now; an end that it had
# reached before; 'unknown', or 'foreign' for another client's, and was left alone.
CancelOutcome = Literal["queued", "started", "finished", "failed", "cancelled", "unknown", "foreign"]


# What a job was when it was to stand elsewhere; 'held' waits until it is let go.
Stood = Literal[
    "queued", "held", "started", "finished", "failed", "cancelled", "deferred", "unknown", "foreign"
]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands, in few words."""

    state: Stood
    started_at: str = ""  # UTC, ISO 8601
    ended_at: str = ""
    suspicious: bool = False  # the checks found something in its picture


# Until when a job waits: a moment, in this machine's zone where it names none; how long from now, by the
# queue's clock; or windows, outside which it is not taken.
When = datetime | timedelta | Windows


def moment(when: When | None) -> dict[str, float]:
    """As scripts take it: `due`, seconds since 1970, or `after`, seconds from now; nothing for now."""
    if isinstance(when, timedelta):
        return {"after": when.total_seconds()}
    due = when.opens(datetime.now(UTC)) if isinstance(when, Windows) else when
    return {} if due is None else {"due": due.timestamp()}


def due_at(when: When | None, now: datetime) -> str:
    """The same in UTC, ISO 8601; '' where it has come by `now`."""
    due = now + when if isinstance(when, timedelta) else when
    due = due.opens(now) if isinstance(due, Windows) else due
    return "" if due is None or due.astimezone(UTC) <= now else f"{due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that the queue holds now."""

    id: str
    spec: RenderSpec  # as the queue has it, seed included
    created: bool  # False: the same job was there already, and is left as it was
    filled: frozenset[str] = frozenset()  # fields that were left out, and what is there decided


class Queue(Protocol):
    """Jobs in lanes. Every method raises NotReadyError where the queue cannot answer."""

    def add(
        self,
        jobs: Sequence[tuple[str, RenderSpec]],
        batch: str | None,
        *,
        held: bool = False,
        not_before: When | None = None,
    ) -> list[bool]:
        """Enqueue each job that is not there yet, by id and spec; whether it was created.

        `held`: it waits until `free` lets it go. `not_before`: none of them is taken until then.
        """
        ...

    def specs(self, job_ids: Sequence[str]) -> dict[str, RenderSpec | None]:
        """What those that the queue knows ask for, seed included; None where a record cannot be read."""
        ...

    def statuses(self, job_ids: Sequence[str], client: str = "") -> dict[str, JobStatus | None]:
        """How each fares, in the order given; None for those the queue does not know.

        Of other clients than `client`, or '' for any, it knows none.
        """
        ...

    def cancel(self, job_ids: Sequence[str], client: str) -> dict[str, CancelOutcome]:
        """End jobs of one client, or '' for any, as cancelled; what each was."""
        ...

    def standing(self, job_ids: Sequence[str], client: str = "") -> dict[str, Standing | None]:
        """How many stand, in the order given; None as of `statuses`."""
        ...

    def retry(self, job_ids: Sequence[str], client: str, *, again: bool) -> dict[str, Stood]:
        """Let jobs that failed or were cancelled wait again, under their ids; `again`: finished ones, too.

        What each was, as of `hold`, `free` and `move`; those of another client than `client`, or '' for any,
        are left alone.
        """
        ...

    def hold(self, job_ids: Sequence[str], client: str) -> dict[str, Stood]:
        """Let no worker take those that wait, until they are let go."""
        ...

    def free(self, job_ids: Sequence[str], client: str) -> dict[str, Stood]:
        """Let held jobs wait again, at the ends of their lanes."""
        ...

    def move(self, job_ids: Sequence[str], client: str, priority: Priority) -> dict[str, Stood]:
        """Give those that wait another priority."""
        ...

    def recent(
        self,
        client: str,
        states: Collection[State],
        limit: int,
        since: str,
        before: tuple[str, str] | None = None,
    ) -> list[tuple[str, str]]:
        """Of a client's jobs, or '' for any, the newest, newest first: when something happened, and the id.

        `since`: no earlier than this, UTC in ISO 8601, or ''. `before`: those that follow this one.
        """
        ...

    def finished(self, lanes: Sequence[str], limit: int) -> list[str]:
        """Ids of the jobs of these lanes that finished last, the last first."""
        ...

    def place(self, job_id: str) -> tuple[int, int] | None:
        """A waiting job's place in its lane, from 1, and how many wait there; None where it does not wait."""
        ...

    def told(self, wait: float) -> Generator[tuple[str, str] | None]:
        """What workers tell as it happens: kind of event and job; None after `wait` seconds of silence.

        Strangers may tell, too: it is a hint to look. It never ends by itself.
        """
        ...

    def manifest(self, client: str, name: str) -> tuple[int, bytes] | None:
        """Revision and manifest of a client's batch, which is kept for weeks after it was asked for last."""
        ...

    def put_manifest(self, client: str, name: str, body: bytes, revision: int) -> bool:
        """Keep a manifest as the one after `revision`, 0 for none; False where another came in between."""
        ...

    def note(self, client: str, key: str, asked: str) -> str:
        """Keep for a week what a client asked for under a key; what was kept of an earlier call, else ''."""
        ...

    def expect(self, client: str, name: str) -> None:
        """Let workers follow whether a batch will be ready by the deadline that its manifest names."""
        ...

    def batches(self, client: str) -> dict[str, int]:
        """Names of a client's batches, the newest first, and the revisions of their manifests."""
        ...

    def foreseen(self, client: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """What a worker last foresaw of batches' deadlines, in the fields that docs/batches.md lists."""
        ...

    def held_by(self, workers: Sequence[str]) -> dict[str, list[str]]:
        """Ids of some jobs that workers, by their names, were given and have not ended, as far as is told."""
        ...

    def previews(self, jobs: Mapping[str, str]) -> dict[str, bytes]:
        """What pictures look like so far, WebP, by ids and clients of jobs.

        Of those of which that is kept, for who may read it.
        """
        ...

    def open_jobs(self, target: Target, client: str) -> list[str]:
        """Jobs that wait for, or are held by, a target: of one client, or '' for any."""
        ...

    def farm(self) -> Farm:
        """What waits in each lane and what each worker does."""
        ...

    def pulse(self, lanes: Sequence[str]) -> Pulse:
        """How long jobs have waited in these lanes; deadlines and webhooks, as workers noted them."""
        ...

    def served(self) -> set[str]:
        """Each `model:quantization` that a living worker serves."""
        ...

    def give(self, order: Order, key: bytes) -> Order:
        """Sign an order with `key` and put it where workers look; the order as given."""
        ...

    def close(self) -> None:
        """Close its connections; the next call opens new ones."""
        ...
