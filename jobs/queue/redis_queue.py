"""The farm's queue: RQ's records in Redis or Valkey, a few hundred jobs to a round trip."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import redis
from rq.job import JobStatus as RQStatus
from rq.utils import now, utcformat

from pixelkiln.jobs import keys
from pixelkiln.jobs.batches.windows import Windows
from pixelkiln.jobs.control.orders import Order, Target, give
from pixelkiln.jobs.plain import mapping
from pixelkiln.jobs.queue.connection import explained
from pixelkiln.jobs.queue.door import chunks
from pixelkiln.jobs.queue.farm import Farm, read_farm, read_open, read_workers
from pixelkiln.jobs.queue.places import Places
from pixelkiln.jobs.queue.pulse import Pulse, read_pulse
from pixelkiln.jobs.queue.queue import CancelOutcome, When, moment
from pixelkiln.jobs.queue.record import JOB_ID, RenderJob
from pixelkiln.jobs.queue.scripts import HERE, Script
from pixelkiln.jobs.queue.shelf import Shelf
from pixelkiln.jobs.queue.status import JobStatus, read_statuses
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import RenderSpec

MAX_PREVIEW = 256 * 1024  # bytes
MOST_HELD = 16  # jobs of a worker that are told
# What the script answers, which speaks RQ's words
_OUTCOMES: dict[str, CancelOutcome] = {
    "queued": "queued",
    "started": "started",
    "finished": "finished",
    "failed": "failed",
    "canceled": "cancelled",
    "stopped": "cancelled",
    "foreign": "foreign",
}


class RedisQueue(Places, Shelf):
    """See Queue. Connects on first use."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._submit = Script(self.connection, "submit", HERE / "submit.lua")
        self._cancel = Script(self.connection, "cancel", HERE / "cancel.lua")

    def add(
        self,
        jobs: Sequence[tuple[str, RenderSpec]],
        batch: str | None,
        *,
        held: bool = False,
        not_before: When | None = None,
    ) -> list[bool]:
        """Enqueue each job that is not there yet; `batch` names an RQ group that lists them.

        A round trip is made again once where its reply was lost: what is there already is left alone.
        """
        self._check()
        created: list[bool] = []
        when = moment(not_before)
        windows = not_before if isinstance(not_before, Windows) else None
        hours = ["kiln_hours", windows.told(datetime.now(UTC))] if windows else []
        for chunk in chunks(jobs):
            about: list[dict[str, Any]] = []
            records: list[Any] = []
            for job_id, spec in chunk:
                record = self._record(job_id, spec, batch, held) + hours
                number = len(created) + len(about)
                job = {"id": job_id, "lane": spec.lane.name, "values": len(record), "number": number}
                job |= {} if batch is None else {"batch": batch}
                about.append(job | ({"held": True} if held else {}))
                records += record
            with explained(self._settings):
                try:
                    flags = self._submit(*records, jobs=about, **when)
                except (redis.ConnectionError, redis.TimeoutError):
                    flags = self._submit(*records, jobs=about, **when)
            created += [bool(flag) for flag in flags]
        return created

    def statuses(self, job_ids: Sequence[str], client: str = "") -> dict[str, JobStatus | None]:
        """How each fares, by RQ's records."""
        self._check()
        with explained(self._settings):
            found = read_statuses(self.connection, job_ids)
        return {name: one if one and client in ("", one.client) else None for name, one in found.items()}

    def cancel(self, job_ids: Sequence[str], client: str) -> dict[str, CancelOutcome]:
        """End jobs as cancelled; what each was."""
        self._check()
        answers: dict[str, CancelOutcome] = {}
        for chunk in chunks(job_ids):
            with explained(self._settings):
                days = self._settings.result_days
                words = self._cancel(jobs=list(chunk), client=client, stamp=utcformat(now()), days=days)
            for job_id, word in zip(chunk, words, strict=True):
                answers[job_id] = _OUTCOMES.get(word.decode(), "unknown")
        return answers

    def open_jobs(self, target: Target, client: str) -> list[str]:
        """Jobs that wait for, or are held by, a target."""
        self._check()
        with explained(self._settings):
            return read_open(self.connection, target, client)

    def farm(self) -> Farm:
        """What waits in each lane and what each worker does."""
        self._check()
        with explained(self._settings):
            return read_farm(self.connection)

    def pulse(self, lanes: Sequence[str]) -> Pulse:
        """How long jobs have waited in these lanes; deadlines and webhooks, as workers noted them."""
        self._check()
        with explained(self._settings):
            return read_pulse(self.connection, lanes)

    def served(self) -> set[str]:
        """Each `model:quantization` that a living worker serves; lanes are not looked at."""
        self._check()
        with explained(self._settings):
            return Farm(workers=read_workers(self.connection)).served

    def held_by(self, workers: Sequence[str]) -> dict[str, list[str]]:
        """By RQ's lists of executions, which strangers may write: each job's record tells whose it is."""
        self._check()
        with explained(self._settings), self.connection.pipeline(transaction=False) as pipe:
            for worker in workers:
                pipe.sscan(keys.WORKER_EXECUTIONS(worker), count=MOST_HELD)
            answers: list[Any] = pipe.execute(raise_on_error=False)
        found = {}
        for worker, answer in zip(workers, answers, strict=True):
            members = answer[1] if isinstance(answer, tuple) else []
            ids = (one.decode("utf-8", "replace").rpartition(":")[0] for one in members[:MOST_HELD])
            found[worker] = [one for one in dict.fromkeys(ids) if JOB_ID.fullmatch(one)]
        return found

    def previews(self, jobs: Mapping[str, str]) -> dict[str, bytes]:
        """As workers keep them; deploy/users.acl.example lets admins read them, not producers."""
        self._check()
        with explained(self._settings), self.connection.pipeline(transaction=False) as pipe:
            for job_id, client in jobs.items():
                pipe.getrange(keys.PREVIEW(client, job_id), 0, MAX_PREVIEW)
            found = dict(zip(jobs, pipe.execute(raise_on_error=False), strict=True))
        return {one: body for one, body in found.items() if _is_webp(body)}

    def told(self, wait: float) -> Generator[tuple[str, str] | None]:
        """What workers tell as it happens."""
        self._check()
        with explained(self._settings), self.connection.pubsub(ignore_subscribe_messages=True) as heard:  # type: ignore[no-untyped-call]
            heard.subscribe(keys.EVENTS)
            while True:
                message = heard.get_message(timeout=wait)
                event = mapping(message["data"]) if message else {}
                kind, job_id = str(event.get("event")), str(event.get("job"))
                yield (kind, job_id) if JOB_ID.fullmatch(job_id) else None

    def give(self, order: Order, key: bytes) -> Order:
        """Sign an order and put it where workers look."""
        self._check()
        with explained(self._settings):
            return give(self.connection, order, key)

    def close(self) -> None:
        """Close the connections of the pool."""
        self.connection.close()
        self.connection.connection_pool.disconnect()

    def _record(self, job_id: str, spec: RenderSpec, batch: str | None, held: bool) -> list[Any]:
        """The names and values of RQ's hash for a new job."""
        days = self._settings.result_days
        job = RenderJob.of(spec, job_id, self.connection, days=days, batch=batch)
        job.enqueued_at = now()
        job._status = RQStatus.DEFERRED if held else RQStatus.QUEUED
        fields = job.to_dict() | ({"kiln_held": "1"} if held else {})
        return [part for item in fields.items() for part in item]


def _is_webp(found: object) -> bool:
    """What is none, or is too large for one, no worker left."""
    if not isinstance(found, bytes) or len(found) > MAX_PREVIEW:
        return False
    return (found[:4], found[8:12]) == (b"RIFF", b"WEBP")
