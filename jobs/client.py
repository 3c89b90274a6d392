"""The client side: submit specs, see how they fare, bring the pictures home."""

from __future__ import annotations

import asyncio
import copy
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, Unpack, cast, overload

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.asked import Asked, Completion, Fault
from pixelkiln.jobs.batches.door import Batches
from pixelkiln.jobs.control.controls import Controls
from pixelkiln.jobs.errors import CorruptObjectError, JobFailedError, NoSuchJobError, UsageError
from pixelkiln.jobs.fields import SpecFields
from pixelkiln.jobs.following import changes, changes_async
from pixelkiln.jobs.known import GivenIds
from pixelkiln.jobs.queue.farm import Farm
from pixelkiln.jobs.queue.queue import Queue, Submitted, When
from pixelkiln.jobs.queue.record import check_job_id
from pixelkiln.jobs.queue.redis_queue import RedisQueue
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.spec import NAME_PATTERN, RenderSpec
from pixelkiln.jobs.storage import objects
from pixelkiln.jobs.storage.address import check_endpoint
from pixelkiln.jobs.storage.objects import Objects
from pixelkiln.jobs.views import Views


class Kiln(Controls, Batches, Views):
    """A producer's door to one farm.

    >>> with Kiln() as kiln:
    ...     job = kiln.submit(prompt="a lighthouse at dusk", model="demo")
    ...     kiln.wait([job.id])
    ...     kiln.fetch(job.id, "renders")

    Every method raises NotReadyError where Redis or the bucket cannot do as asked. It connects on first use;
    the end of the block, or `close`, closes its connections.
    """

    def __init__(
        self, settings: Settings | None = None, *, queue: Queue | None = None, bucket: Objects | None = None
    ) -> None:
        """The farm of `settings`, by default those in force; tests give it another queue and bucket."""
        self.settings = settings or Settings.load()
        self.queue: Queue = queue or RedisQueue(self.settings)
        self._bucket = bucket
        self._given = GivenIds(self.queue, lambda: self.bucket)

    def as_client(self, client: str) -> Self:
        """The same farm, seen by another client; over the same connections."""
        other = copy.copy(self)
        other.settings = self.settings.model_copy(update={"client": client})
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to Redis and the bucket; what is called later opens new ones."""
        self.queue.close()
        if self._bucket is not None:
            self._bucket.close()

    @property
    def redis(self) -> redis.Redis:
        """The connection to the farm's Redis."""
        assert isinstance(self.queue, RedisQueue), "there is no Redis behind this queue"
        return self.queue.connection

    @property
    def bucket(self) -> Objects:
        """The farm's bucket."""
        if self._bucket is None:
            from pixelkiln.jobs.storage.bucket import Bucket  # boto3: a quarter of the time to start

            self._bucket = Bucket.open(self.settings)
        return self._bucket

    @overload
    def submit(
        self, spec: RenderSpec | SpecFields, /, *, id: str | None = None, not_before: When | None = None
    ) -> Submitted: ...

    @overload
    def submit(
        self, *, id: str | None = None, not_before: When | None = None, **fields: Unpack[SpecFields]
    ) -> Submitted: ...

    def submit(  # type: ignore[misc] # mypy does not see that Any takes the fields
        self, spec: RenderSpec | SpecFields | None = None, /, *, id: str | None = None, **fields: Any
    ) -> Submitted:
        """Enqueue one job, given as a spec or as its fields; once this returns, it will end exactly once.

        References given as Path are uploaded first; given as text they are names of uploaded ones. A model, a
        quantization or an edit's size that is left out is chosen by what workers serve, or the picture: the
        job's `filled` says which fields were filled in so, its `spec` as what. A RenderSpec leaves out none.
        `id` is the picture's for good: given again with the same spec it is the same job (priority and labels
        may differ, an absent seed is derived from it), with another it is refused. `not_before`, a moment or
        how long from now: no worker takes it earlier. Raises SpecError (nothing was enqueued) or
        NotReadyError (Redis did not confirm; submitting again with the same id is safe).
        """
        not_before = fields.pop("not_before", None)
        if spec is not None and fields:
            raise UsageError("submit takes a spec or its fields, not both; a prompt is a field: prompt=…")
        wanted = cast(SpecFields, fields) if spec is None else spec
        return self.submit_many([wanted], ids=None if id is None else [id], not_before=not_before)[0]

    def submit_many(
        self,
        specs: Iterable[RenderSpec | SpecFields | Asked],
        *,
        ids: Sequence[str] | None = None,
        batch: str | None = None,
        not_before: When | None = None,
    ) -> list[Submitted]:
        """Enqueue many jobs, a hundred to a round trip; all are checked before the first is sent.

        An id that was used before stands for what was asked for then: the same picture is the same job,
        reported with `created` False and left as it was; another one is refused. `batch` names an RQ group
        that lists the new ones. Raises as `submit`.
        """
        wanted = self.completed(specs)
        if ids is not None and len(ids) != len(wanted):
            raise UsageError(f"ids: {len(ids)} for {len(wanted)} specs")
        if batch is not None:
            check_job_id(batch)
        if ids is not None:
            return self._given.submit([check_job_id(name) for name in ids], wanted, batch, not_before)
        jobs = [(str(uuid.uuid4()), one.spec.with_seed()) for one in wanted]
        self.queue.add(jobs, batch, not_before=not_before)
        # After a lost reply the second try finds the job there; an id drawn here nobody else can have made.
        return [Submitted(*job, True, one.filled) for job, one in zip(jobs, wanted, strict=True)]

    def completed(self, specs: Iterable[RenderSpec | SpecFields | Asked]) -> list[Asked]:
        """The specs that would be enqueued, all fields filled in; references given as Path are uploaded.

        Raises SpecError.
        """
        check_endpoint(self.settings)  # the bucket is not asked yet: who could not fetch shall know now
        return Completion(self.settings, self.queue.served, self._upload, self._size_of).all(specs)

    def upload(self, path: str | Path, client: str | None = None) -> str:
        """Put a reference picture into the bucket, once by content; its sha256, which specs name it by.

        It is there for jobs of that client, by default the settings'. Raises SpecError where it is not a
        picture that a worker would take.
        """
        return objects.put_reference(self.bucket, path, client or self.settings.client)

    def _upload(self, path: Path, client: str, fault: Fault) -> str:
        return objects.put_reference(self.bucket, path, client, fault)

    def _size_of(self, name: str, client: str, field: str) -> tuple[int, int]:
        return objects.reference_size(self.bucket, name, client, field)

    def status(self, job_id: str) -> JobStatus:
        """How one job fares: from Redis, or from its sidecar once Redis has forgotten it.

        Raises NoSuchJobError where neither knows it.
        """
        found = self.statuses([job_id])[job_id]
        if found is None:
            raise NoSuchJobError(
                f"no job {job_id} in the queue, nor a picture of it under client {self.settings.client!r};"
                " for names see: kiln batches"
            )
        return found

    def statuses(self, job_ids: Sequence[str], *, client: str = "") -> dict[str, JobStatus | None]:
        """How several jobs fare, in the order given; None for those nothing is known of.

        `client`: of no other's jobs anything is.
        """
        found = self.queue.statuses([check_job_id(job_id) for job_id in job_ids], client)
        return {job_id: status or self._stored(job_id) for job_id, status in found.items()}

    def watch(
        self,
        job_ids: Sequence[str] | None = None,
        *,
        batch: str | None = None,
        interval: float = 0.2,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[JobStatus]:
        """Yield each job's status whenever it changes, until all have ended; asks every `interval` seconds.

        The jobs are named by their ids, or are what was sent of a batch by its name. Outages after the first
        answer are waited out: the last known status stands until Redis answers again.
        Raises NoSuchJobError for an id or a name nothing is known of.
        """
        return changes(self, self._followed(job_ids, batch), interval, sleep)

    def awatch(
        self, job_ids: Sequence[str] | None = None, *, batch: str | None = None, interval: float = 0.2
    ) -> AsyncIterator[JobStatus]:
        """The same for asyncio: the loop is never blocked, and a task that is cancelled leaves at once."""
        return changes_async(self, lambda: self._followed(job_ids, batch), interval, asyncio.sleep)

    def _followed(self, job_ids: Sequence[str] | None, batch: str | None) -> list[str]:
        if (job_ids is None) == (batch is None):
            raise UsageError("watch takes the ids of jobs, or batch=NAME")
        if batch is not None:
            return self.open_batch(batch).sent_ids()
        return [check_job_id(job_id) for job_id in job_ids or ()]

    def wait(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """Block until all have ended; their last statuses, in the order given."""
        last = {status.id: status for status in self.watch(job_ids)}
        return [last[job_id] for job_id in job_ids]

    def farm(self) -> Farm:
        """What waits in each lane and what each worker does."""
        return self.queue.farm()

    def sidecar(self, job_id: str) -> Sidecar:
        """The record beside a finished job's picture.

        Raises NoSuchJobError, JobFailedError unless the job has finished, and CorruptObjectError.
        """
        return self.sidecar_of(self.status(job_id))

    def sidecar_of(self, status: JobStatus) -> Sidecar:
        """The same of a job whose status is known."""
        job_id = status.id
        if status.state != "finished":
            reason = f": {status.error}" if status.error else ""
            raise JobFailedError(f"job {job_id} is {status.state}, not finished{reason}")
        if status.result is None:
            raise JobFailedError(
                f"job {job_id} is finished, but its result cannot be read; render it anew with:"
                f" kiln retry {job_id} --again"
            )
        return objects.get_finished(self.bucket, self.client_of(status), job_id, status.result)

    def fetch(self, job_id: str, folder: str | Path = ".", *, name: str | None = None) -> Path:
        """Bring a finished job's picture and sidecar home, as `<id>.png` and `<id>.json`; the picture's path.

        `name` stands in place of the id. A picture that is there already, whole, is not asked for again.
        Raises as `sidecar`; CorruptObjectError also where the picture is not the one that was stored.
        """
        return objects.fetch(self.bucket, self.sidecar(job_id), folder, name)

    def client_of(self, status: JobStatus) -> str:
        """Whose a job is, which says where its objects lie."""
        return status.client if re.fullmatch(NAME_PATTERN, status.client) else self.settings.client

    def _stored(self, job_id: str) -> JobStatus | None:
        """The status of a job that Redis has forgotten, by what lies in the bucket."""
        client = self.settings.client
        try:
            sidecar = objects.get_committed(self.bucket, client, job_id)
        except CorruptObjectError:
            return None
        return JobStatus.of_sidecar(sidecar, keys.SIDECAR(client, job_id)) if sidecar else None
