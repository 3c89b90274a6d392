"""The client side: submit specs, see how they fare, bring the pictures home."""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from pydantic import ValidationError
from rq.job import JobStatus as RQStatus
from rq.utils import now, utcformat

from pixelkiln.jobs import keys
from pixelkiln.jobs.control.orders import Order, Target, Verb, admin_key, fingerprint, give
from pixelkiln.jobs.errors import JobFailedError, NoSuchJobError, NotReadyError, SpecError, UsageError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.connection import connect, explained
from pixelkiln.jobs.queue.record import RenderJob, check_job_id
from pixelkiln.jobs.queue.scripts import HERE, Script
from pixelkiln.jobs.queue.status import ENDED, JobStatus, read_farm, read_open, read_statuses
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.spec import NAME_PATTERN, RenderSpec
from pixelkiln.jobs.storage.bucket import Bucket, CorruptObjectError
from pixelkiln.jobs.storage.pictures import read_picture

CHUNK = 200  # jobs in one round trip
_BEYOND = {*ENDED, "canceled", "stopped", "unknown", "foreign"}  # what a cancel found and left alone


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that the queue holds now."""

    id: str
    spec: RenderSpec  # as submitted, seed included
    created: bool  # False: a job of that id was there already, and is left as it was


class Kiln:
    """A producer's door to one farm.

    >>> kiln = Kiln()
    >>> job = kiln.submit(prompt="a lighthouse at dusk", model="demo")
    >>> path = kiln.fetch(job.id, "renders")  # once it has finished; see wait()
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()
        self.redis = connect(self.settings)
        self._submit = Script(self.redis, "submit", HERE / "submit.lua")
        self._cancel = Script(self.redis, "cancel", HERE / "cancel.lua")
        self._bucket: Bucket | None = None

    @property
    def bucket(self) -> Bucket:
        """The farm's bucket."""
        if self._bucket is None:
            self._bucket = Bucket.open(self.settings)
        return self._bucket

    def submit(self, spec: RenderSpec | None = None, /, *, id: str | None = None, **fields: Any) -> Submitted:
        """Enqueue one job, given as a spec or as its fields; once this returns, it will end exactly once.

        References given as Path are uploaded first; given as text they are names of uploaded ones.
        Raises SpecError (nothing was enqueued) or NotReadyError (Redis did not confirm; submitting again with
        the same id is safe).
        """
        wanted: RenderSpec | Mapping[str, Any] = fields if spec is None else spec
        return self.submit_many([wanted], ids=None if id is None else [id])[0]

    def submit_many(
        self,
        specs: Iterable[RenderSpec | Mapping[str, Any]],
        *,
        ids: Sequence[str] | None = None,
        batch: str | None = None,
    ) -> list[Submitted]:
        """Enqueue many jobs, a few hundred to a round trip; all are checked before the first is sent.

        A job whose id the queue knows already is that job: it is reported with `created` False and left as it
        was. `batch` names an RQ group that lists them. Raises as `submit`.
        """
        checked = [self._check(spec) for spec in specs]
        names = (
            [check_job_id(name) for name in ids] if ids is not None else [str(uuid.uuid4()) for _ in checked]
        )
        if len(names) != len(checked):
            raise UsageError(f"ids: {len(names)} for {len(checked)} specs")
        if batch is not None:
            check_job_id(batch)
        created: list[bool] = []
        for start in range(0, len(checked), CHUNK):
            chunk = slice(start, start + CHUNK)
            created += self._send(checked[chunk], names[chunk], batch)
        # After a lost reply the second try finds the job there; an id drawn here nobody else can have made.
        return [
            Submitted(name, spec, new or ids is None)
            for name, spec, new in zip(names, checked, created, strict=True)
        ]

    def upload(self, path: str | Path, client: str | None = None) -> str:
        """Put a reference picture into the bucket, once by content; its sha256, which specs name it by.

        It is there for jobs of that client, by default the settings'. Raises SpecError where it is not a
        picture that a worker would take.
        """
        try:
            body = Path(path).read_bytes()
        except OSError as error:
            raise SpecError("references", f"{path}: {error.strerror}") from None
        read_picture(body, f"references ({path})")
        name = hashlib.sha256(body).hexdigest()
        key = keys.REFERENCE(client or self.settings.client, name)
        if self.bucket.head(key) is None:
            self.bucket.put(key, body, "application/octet-stream", if_absent=True)
        return name

    def status(self, job_id: str) -> JobStatus:
        """How one job fares: from Redis, or from its sidecar once Redis has forgotten it.

        Raises NoSuchJobError where neither knows it.
        """
        found = self.statuses([job_id])[job_id]
        if found is None:
            raise NoSuchJobError(
                f"no job {job_id} in the queue, nor a picture of it under client {self.settings.client!r}"
            )
        return found

    def statuses(self, job_ids: Sequence[str]) -> dict[str, JobStatus | None]:
        """How several jobs fare, in the order given; None for those nothing is known of."""
        for job_id in job_ids:
            check_job_id(job_id)
        with explained(self.settings):
            found = read_statuses(self.redis, list(job_ids))
        for job_id, status in found.items():
            if status is None:
                sidecar = self._sidecar(job_id)
                if sidecar:
                    key = keys.SIDECAR(self.settings.client, job_id)
                    found[job_id] = JobStatus.of_sidecar(sidecar, key)
        return found

    def watch(
        self, job_ids: Sequence[str], *, interval: float = 0.2, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[JobStatus]:
        """Yield each job's status whenever it changes, until all have ended.

        Outages are waited out: the last known status stands until Redis answers again.
        Raises NoSuchJobError for an id nothing is known of.
        """
        last: dict[str, JobStatus] = {}
        open_ids = list(dict.fromkeys(job_ids))
        while open_ids:
            try:
                found = self.statuses(open_ids)
            except NotReadyError:
                if not last:
                    raise
                sleep(1.0)
                continue
            for job_id, status in found.items():
                if status is None:
                    raise NoSuchJobError(f"no job {job_id} in the queue or the bucket")
                if last.get(job_id) != status:
                    last[job_id] = status
                    yield status
            open_ids = [job_id for job_id in open_ids if not last[job_id].ended]
            if open_ids:
                sleep(interval)

    def wait(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """Block until all have ended; their last statuses, in the order given."""
        last = {status.id: status for status in self.watch(job_ids)}
        return [last[job_id] for job_id in job_ids]

    def cancel(self, job_ids: Sequence[str], *, any_client: bool = False) -> dict[str, str]:
        """End jobs as cancelled: a queued one is gone, a running one stops, a finished picture is not stored.

        What each was: 'queued' or 'started' (and is cancelled now), an end it had reached before, 'unknown',
        or 'foreign' for another client's, which are left alone unless `any_client`.
        """
        ids = [check_job_id(job_id) for job_id in job_ids]
        client = "" if any_client else self.settings.client
        answers: list[bytes] = []
        with explained(self.settings):
            for start in range(0, len(ids), CHUNK):
                chunk = ids[start : start + CHUNK]
                answers += self._cancel(
                    jobs=chunk, client=client, stamp=utcformat(now()), days=self.settings.result_days
                )
        return {job_id: answer.decode() for job_id, answer in zip(ids, answers, strict=True)}

    def cancel_all(self, target: str | Target, *, any_client: bool = False) -> dict[str, str]:
        """Cancel all that waits for, or is held by, a target; of this client only, unless `any_client`.

        What each was, as `cancel` tells it. Raises UsageError where the target is another client and
        `any_client` was not said.
        """
        target = target if isinstance(target, Target) else Target.parse(target)
        client = "" if any_client else self.settings.client
        if client and target.kind == "client" and target.name != client:
            raise UsageError(f"{target} is another client; --any-client cancels its jobs")
        cancelled: dict[str, str] = {}
        for _ in range(3):  # a job may change its place while the places are looked through
            with explained(self.settings):
                there = read_open(self.redis, target, client)
            answers = self.cancel(there, any_client=any_client)
            new = {job_id: was for job_id, was in answers.items() if was not in _BEYOND}
            if not new:
                break
            cancelled |= new
        return cancelled

    def pause(self, target: str | Target) -> Order:
        """Let no further job be taken: by the farm or a worker, of a client or a model. Running ones go on.

        Raises UsageError, and NotReadyError where no key is there to sign with.
        """
        return self._order("pause", target)

    def resume(self, target: str | Target) -> Order:
        """End what `pause` began for the very same target. Raises as `pause`."""
        return self._order("resume", target)

    def drain(self, target: str | Target, *, now: bool = False) -> Order:
        """Let a worker, or all that run, finish the running job, deliver and leave; `now` gives the job back.

        Raises as `pause`.
        """
        return self._order("drain", target, now=now)

    def workers_ignoring_orders(self) -> list[str]:
        """Workers at work that will not obey orders signed with this key: they have another, or none."""
        own = fingerprint(admin_key(self.settings))
        return [worker["name"] for worker in self.farm()["workers"] if worker["orders"] != own]

    def farm(self) -> dict[str, list[dict[str, Any]]]:
        """What waits in each lane and what each worker does, as numbers and words."""
        with explained(self.settings):
            return read_farm(self.redis)

    def sidecar(self, job_id: str) -> Sidecar:
        """The record beside a finished job's picture. Raises JobFailedError or NoSuchJobError."""
        status = self._finished(job_id)
        assert status.result is not None
        client = self._client(status)
        key = keys.SIDECAR(client, job_id)
        if (status.result["png"], status.result["sidecar"]) != (keys.PICTURE(client, job_id), key):
            raise CorruptObjectError(f"the result of job {job_id} names other objects than its own")
        body = self.bucket.get(key)
        if body is None:
            raise CorruptObjectError(f"{key} is gone from the bucket")
        return _own_sidecar(body, client, job_id)

    def fetch(self, job_id: str, folder: str | Path = ".") -> Path:
        """Bring a finished job's picture and sidecar home, as `<id>.png` and `<id>.json`; the picture's path.

        Raises JobFailedError unless the job has finished, CorruptObjectError where the picture is not the one
        that was stored.
        """
        sidecar = self.sidecar(job_id)
        body = self.bucket.get(sidecar.png.key)
        if body is None or hashlib.sha256(body).hexdigest() != sidecar.png.sha256:
            raise CorruptObjectError(f"{sidecar.png.key} does not match its sidecar; submit the job again")
        target = Path(folder) / f"{job_id}.png"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for path, content in ((target, body), (target.with_suffix(".json"), _json(sidecar))):
                part = path.with_name(path.name + ".part")
                part.write_bytes(content)
                part.replace(path)
        except OSError as error:
            raise UsageError(f"{error.filename or folder}: {error.strerror}") from None
        return target

    def _order(self, verb: Verb, target: str | Target, now: bool = False) -> Order:
        key = admin_key(self.settings)
        if key is None:
            raise NotReadyError(
                "KILN_ADMIN_KEY is not set, which signs orders: set it to the workers' own, or run this in "
                "the folder where `kiln up` runs"
            )
        order = Order(verb=verb, target=str(target), at=0.0, now=now).check()
        with explained(self.settings):
            return give(self.redis, order, key)

    def _check(self, spec: RenderSpec | Mapping[str, Any]) -> RenderSpec:
        if isinstance(spec, RenderSpec):  # wire() leaves a client out that is the default, named or not
            named_client = {"client": spec.client} if "client" in spec.model_fields_set else {}
            spec = {**spec.wire(), **named_client}
        fields = {"client": self.settings.client, **spec}
        named = fields.get("references", ())
        if isinstance(named, list | tuple) and any(isinstance(one, Path) for one in named):
            # All else first: nothing is uploaded for a job that is refused.
            RenderSpec.parse({**fields, "references": ["0" * 64] * len(named)})
            fields["references"] = [
                self.upload(one, fields["client"]) if isinstance(one, Path) else one for one in named
            ]
        return RenderSpec.parse(fields).with_seed()

    def _send(self, specs: Sequence[RenderSpec], ids: Sequence[str], batch: str | None) -> list[bool]:
        """One round trip, made again once where its reply was lost: what is there already is left alone."""
        jobs: list[dict[str, Any]] = []
        records: list[Any] = []
        for spec, job_id in zip(specs, ids, strict=True):
            job = RenderJob.of(spec, job_id, self.redis, days=self.settings.result_days, batch=batch)
            job.enqueued_at = now()
            job._status = RQStatus.QUEUED
            record = [part for item in job.to_dict().items() for part in item]
            about = {"id": job_id, "lane": spec.lane.name, "values": len(record)}
            jobs.append(about if batch is None else {**about, "batch": batch})
            records += record
        with explained(self.settings):
            try:
                created = self._submit(*records, jobs=jobs)
            except (redis.ConnectionError, redis.TimeoutError):
                created = self._submit(*records, jobs=jobs)
        return [bool(flag) for flag in created]

    def _finished(self, job_id: str) -> JobStatus:
        status = self.status(job_id)
        if status.state == "finished" and status.result is None:
            raise JobFailedError(
                f"job {job_id} is finished, but its result cannot be read; submit the job again"
            )
        if status.state != "finished":
            reason = f": {status.error}" if status.error else ""
            raise JobFailedError(f"job {job_id} is {status.state}, not finished{reason}")
        return status

    def _sidecar(self, job_id: str) -> Sidecar | None:
        body = self.bucket.get(keys.SIDECAR(self.settings.client, job_id))
        if body is None:
            return None
        try:
            return _own_sidecar(body, self.settings.client, job_id)
        except CorruptObjectError:
            return None

    def _client(self, status: JobStatus) -> str:
        """Whose job it is, which says where its objects lie."""
        lane = Lane.parse(status.lane)
        return lane.client if lane and re.fullmatch(NAME_PATTERN, lane.client) else self.settings.client


def _own_sidecar(body: bytes, client: str, job_id: str) -> Sidecar:
    """The sidecar of that job. Raises CorruptObjectError where `body` is none, or another's."""
    key = keys.SIDECAR(client, job_id)
    try:
        sidecar = Sidecar.model_validate_json(body)
    except ValidationError:
        raise CorruptObjectError(f"{key} is not a sidecar; submit the job again") from None
    if (sidecar.job.id, sidecar.png.key) != (job_id, keys.PICTURE(client, job_id)):
        raise CorruptObjectError(f"{key} is of another job")
    return sidecar


def _json(sidecar: Sidecar) -> bytes:
    return sidecar.model_dump_json(indent=1).encode()
