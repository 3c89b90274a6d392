"""Jobs: submitted, looked at, cancelled, tried again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, Field, WithJsonSchema

from pixelkiln.jobs.batches import times
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import NoSuchJobError, SpecError
from pixelkiln.jobs.queue.queue import Submitted, When
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.web.idempotency import Key, keyed, note, used
from pixelkiln.jobs.web.openapi import NOT_THERE, spec_schema
from pixelkiln.jobs.web.reading import OrBucket, reading
from pixelkiln.jobs.web.who import Caller, Farm, Known, Whose, own

MOST = 1000  # jobs of one request; more are a batch

router = APIRouter(tags=["jobs"])

Spec = Annotated[dict[str, Any], WithJsonSchema(spec_schema())]
Id = Annotated[str, InPath(pattern=f"^{JOB_ID.pattern}$", description="of a job")]
NotBefore = Annotated[
    str | None,
    Query(max_length=40, description="none is taken before: 22:00, 2026-11-27T22:00 (server's zone) or 3h"),
]


class Accepted(BaseModel):
    """A job that the queue holds now."""

    id: str
    created: bool  # false: it was there already, and is left as it was
    filled: list[str]  # fields that were left out, and what is there decided
    spec: Spec

    @classmethod
    def of(cls, job: Submitted) -> Accepted:
        """As it is told."""
        return cls(id=job.id, created=job.created, filled=sorted(job.filled), spec=job.spec.wire())


@dataclass(frozen=True, slots=True)
class Job(JobStatus):
    """How a job fares, and what it asks for."""

    client: str = ""  # said, where the status computes it
    spec: Spec | None = None  # null where its record cannot be read


class Outcome(BaseModel):
    """What became of a job."""

    id: str
    was: Literal["queued", "started", "finished", "failed", "cancelled", "held", "deferred", "again"]


def jobs_of(kiln: Kiln, statuses: Iterable[JobStatus]) -> list[Job]:
    """Statuses as they are told, with what was asked for."""
    known = list(statuses)
    specs = kiln.specs(known)
    return [job_of(one, specs[one.id].wire() if one.id in specs else None) for one in known]


def job_of(status: JobStatus, spec: Spec | None = None) -> Job:
    """A status as it is told."""
    told = {field.name: getattr(status, field.name) for field in fields(JobStatus)}
    return Job(**told, client=status.client, spec=spec)


def submit(
    kiln: Kiln,
    caller: Caller,
    specs: list[Spec],
    key: str | None,
    asked: Any,
    not_before: When | None = None,
) -> list[Submitted]:
    """Enqueue jobs for the caller's client; an admin's may name another. Raises SpecError, ProblemError.

    `asked` is all that makes it another request, which is refused under the same key.
    """
    for place, spec in enumerate(specs):
        client = spec.get("client", caller.client)
        if not caller.admin and client != caller.client:
            error = SpecError("client", f"this token is for {caller.client}; leave it out")
            error.place = place
            raise error
    wanted = kiln.completed(specs)  # type: ignore[arg-type]
    if key is None:
        return kiln.submit_many(wanted, not_before=not_before)
    note(kiln, key, asked)
    ids = [keyed(caller.client, key, place) for place in range(len(specs))]
    try:
        return kiln.submit_many(wanted, ids=ids, not_before=not_before)
    except SpecError as error:
        raise used() if error.field == "id" else error from None  # a key that is older than what is noted


@router.post(
    "/jobs",
    status_code=201,
    summary="Submit one job, or many",
    responses={200: {"description": "They were there already.", "model": Accepted | list[Accepted]}},
)
async def post_jobs(
    request: Request,
    kiln: Farm,
    caller: Known,
    response: Response,
    body: Spec | Annotated[list[Spec], Field(min_length=1, max_length=MOST)],
    key: Key = None,
    not_before: NotBefore = None,
) -> Accepted | list[Accepted]:
    """All are looked at before the first is enqueued. One object gives one, a list a list."""
    when = times.when(kiln.settings.zone, not_before)
    specs = body if isinstance(body, list) else [body]

    def act() -> list[Accepted]:
        jobs = submit(kiln, caller, specs, key, ["jobs", body, not_before], when)
        return [Accepted.of(job) for job in jobs]

    told = await reading(request, caller, act, any(spec.get("references") for spec in specs))
    if not any(job.created for job in told):
        response.status_code = 200
    return told if isinstance(body, list) else told[0]


@router.get("/jobs/{id}", summary="How a job fares", responses=NOT_THERE)
def get_job(kiln: OrBucket, caller: Known, id: Id, client: Whose = None) -> Job:
    """From the queue, or from what is stored once the queue has forgotten it."""
    theirs, status = own(kiln, caller, id, client)
    return jobs_of(theirs, [status])[0]


@router.delete("/jobs/{id}", summary="Cancel a job", responses=NOT_THERE)
def delete_job(kiln: OrBucket, caller: Known, id: Id, client: Whose = None) -> Outcome:
    """A queued one is gone, a running one stops; what has ended stays as it is, and `was` says as what."""
    theirs, status = own(kiln, caller, id, client)
    was = theirs.cancel([id])[id]
    if was == "foreign":
        raise NoSuchJobError(f"no job {id}")
    return Outcome(id=id, was=status.state if was == "unknown" else was)


@router.post("/jobs/{id}/retry", summary="Let a job be rendered again", responses=NOT_THERE)
def retry_job(kiln: OrBucket, caller: Known, id: Id, again: bool = False, client: Whose = None) -> Outcome:
    """Under its id, where it failed or was cancelled; `again`: if finished, too: another picture."""
    theirs, status = own(kiln, caller, id, client)
    was = theirs.retry([id], again=again)[id]
    if was == "foreign":
        raise NoSuchJobError(f"no job {id}")
    return Outcome(id=id, was=status.state if was == "unknown" else was)
