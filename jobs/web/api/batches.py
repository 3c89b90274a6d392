"""Batches: a file of jobs submitted under a name, how it fares, its report, and what can be done with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field

from pixelkiln.jobs.batches import times
from pixelkiln.jobs.batches.checking import check
from pixelkiln.jobs.batches.forecast import Outlook
from pixelkiln.jobs.batches.plan import estimated, foreseen, plan, refused
from pixelkiln.jobs.batches.reading import Format as FileFormat
from pixelkiln.jobs.batches.reading import read_rows
from pixelkiln.jobs.batches.rows import Fault as RowFault
from pixelkiln.jobs.batches.rows import FaultyRowsError, Place, Row
from pixelkiln.jobs.batches.standing import BatchStatus
from pixelkiln.jobs.batches.sweeps import expand
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.shares import shortened
from pixelkiln.jobs.spec import Priority
from pixelkiln.jobs.web.api.jobs import NotBefore, Spec
from pixelkiln.jobs.web.idempotency import Key, keyed, note
from pixelkiln.jobs.web.openapi import NOT_THERE
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.reading import WithBucket
from pixelkiln.jobs.web.receiving import heavily, received
from pixelkiln.jobs.web.who import Farm, Known, Whose, whose

router = APIRouter(tags=["batches"])

Named = Annotated[str, InPath(pattern=f"^{JOB_ID.pattern}$", description="of a batch")]
Verb = Literal["retry", "cancel", "pause", "resume", "prioritize"]
Format = Literal["html", "markdown", "json"]

_MEDIA: dict[Format, str] = {"html": "text/html", "markdown": "text/markdown", "json": "application/json"}
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
_KINDS = ("text/csv", "application/json", "application/x-ndjson", "application/yaml", "text/plain")
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A file of jobs as `kiln batch` takes it: CSV, TSV, JSON, JSON Lines, YAML, or a"
        " prompt a line. References in it are names of uploaded pictures.",
        "content": {kind: {"schema": {"type": "string"}} for kind in _KINDS},
    }
}


class Sending(BaseModel):
    """How a file is to be taken; what rows leave out is as of `kiln batch`."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")] | None = Field(
        None, description="what it is found by; absent: made of `source` and the time"
    )
    source: str = Field("", max_length=200, description="name of the file; its suffix tells its kind")
    format: FileFormat | None = Field(None, description="absent: by suffix, or by what it holds")
    dry_run: bool = Field(False, description="say what would be sent; send nothing")
    skip_bad: bool = Field(False, description="send the good rows, and name the others")
    model: str | None = Field(None, max_length=100)
    quantization: str | None = Field(None, max_length=20)
    size: str | None = Field(None, max_length=20)
    seeds: str | None = Field(None, max_length=2000)
    fast: bool = Field(False, description="fewer steps at full size, for rows that say nothing of steps")
    draft: bool = Field(False, description="as few steps as show the picture, likewise")
    not_before: NotBefore = None
    window: str | None = Field(
        None, max_length=200, description="none is taken outside of it: Mo-Fr 20:00-07:00, Sa-Su"
    )
    deadline: str | None = Field(
        None, max_length=40, description="all shall be ready by then; written as not_before"
    )

    @property
    def usual(self) -> dict[str, str]:
        """Fields of rows that say nothing else."""
        told = self.model_dump(include={"model", "quantization", "size", "seeds"})
        return {name: value for name, value in told.items() if value is not None}


class Refused(BaseModel):
    """What is at fault in a file, and where."""

    line: int | None
    field: str | None
    message: str


class Estimate(BaseModel):
    """What a batch may take; what is not known is left out."""

    hours: float | None
    unknown: list[str]  # kinds of which no living worker finished any of late
    unserved: list[str]  # kinds that no living worker serves
    waiting: int  # jobs that wait already in these kinds' lanes
    space: int  # bytes of the pictures
    measured: bool  # whether by pictures of late, else it is the most they can be
    workers: list[str]


class Plan(BaseModel):
    """What a file would enqueue."""

    jobs: int
    first: list[Spec]
    refused: list[Refused]
    repeated: int
    references: int
    estimate: Estimate | None
    deadline: Outlook | None  # whether all will be ready by then, where it has one


class Taken(BaseModel):
    """A batch that was submitted."""

    name: str
    jobs: int
    new: int
    again: int  # that had failed or were cancelled, and are tried again
    there: int  # that were there, and are left as they were
    unlisted: int  # of earlier submits, not in this file: they stand as they were
    refused: list[Refused] = []  # with `skip_bad`


class Listed(BaseModel):
    """A batch among others."""

    name: str
    created: str
    source: str
    paused: bool
    total: int


class Done(BaseModel):
    """What became of a batch's jobs."""

    name: str
    verb: Verb
    jobs: int  # that it was done to


@router.post(
    "/batches",
    status_code=201,
    summary="Submit a file of jobs",
    openapi_extra=_BODY,
    responses={200: {"model": Plan, "description": "With `dry_run`: what would be sent."}},
)
async def post_batch(
    kiln: Farm,
    caller: Known,
    request: Request,
    response: Response,
    how: Annotated[Sending, Query()],
    key: Key = None,
) -> Taken | Plan:
    """All rows are looked at before one is sent. The same file under the same name is the same jobs."""
    async with received(request) as path:
        found = await heavily(request, lambda: submit_file(kiln, path.read_bytes(), how, key))
    if isinstance(found, Plan):
        response.status_code = 200
    return found


def submit_file(kiln: Kiln, data: bytes, how: Sending, key: str | None) -> Taken | Plan:
    """Submit a file, or say what would be. Raises SpecError, UsageError; FaultyRowsError has all faults."""
    if how.fast and how.draft:
        raise SpecError("draft", "says fewer steps than fast; give one of them")
    zone = kiln.settings.zone
    when, due = times.when(zone, how.not_before, how.window), times.due(zone, how.deadline)
    folder = Path("/")  # of no meaning: no file of this machine is read
    source = how.source or "the file"
    rows = expand(read_rows(source, data, folder, format=how.format, defaults=how.usual))
    checked = check(kiln, map(_without_files, shortened(rows, how.fast, how.draft)))
    if how.dry_run:
        outlook = foreseen(kiln, checked, when, due)
        return Plan.model_validate(plan(checked, estimated(kiln, checked)[0], outlook))
    if checked.faults and not (how.skip_bad and checked.asked):
        raise FaultyRowsError(checked.faults, checked.bad)
    name, resent = how.name, False
    if key is not None:
        resent = note(kiln, key, ["batches", data, how.model_dump()])
        name = name or f"batch-{keyed(kiln.settings.client, key, 0)}"
    batch = kiln.batch(checked.asked, name, source=how.source, not_before=when, deadline=due, resent=resent)
    sent = batch.sent
    return Taken(
        name=batch.name,
        jobs=len(sent.jobs),
        new=sent.new,
        again=sent.again,
        there=sent.there,
        unlisted=len(sent.unlisted),
        refused=[Refused(**one) for one in refused(checked)],
    )


def _without_files(row: Row) -> Row:
    """A row that names no files: they would be this machine's, not the sender's."""
    if not any(isinstance(one, Path) for one in _flat(row.fields.get("references", ()))):
        return row
    told = "must be the name of an uploaded picture, which POST /v1/references tells"
    return replace(row, fields={}, faults=(*row.faults, RowFault(Place(row.place.line, "ref"), told)))


def _flat(value: Any) -> Iterator[Any]:
    for one in value if isinstance(value, list | tuple) else [value]:
        yield from _flat(one) if isinstance(one, list | tuple) else [one]


@router.get("/batches", summary="The newest batches", responses=NOT_THERE)
def get_batches(
    kiln: WithBucket, caller: Known, client: Whose = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[Listed]:
    """Those that the queue knows; older ones are found by name."""
    return [
        Listed(
            name=one.name,
            created=one.created,
            source=one.source,
            paused=one.paused,
            total=len(one.entries),
        )
        for one in whose(kiln, caller, client).books.newest(limit)
    ]


@router.get("/batches/{name}", summary="How a batch fares", responses=NOT_THERE)
def get_batch(kiln: WithBucket, caller: Known, name: Named, client: Whose = None) -> BatchStatus:
    """Every picture of it is counted once."""
    return whose(kiln, caller, client).open_batch(name).status()


@router.get(
    "/batches/{name}/report",
    summary="What became of a batch",
    response_class=Response,
    responses={
        **NOT_THERE,
        200: {
            "description": "The report.",
            "content": {
                "text/html": {"schema": {"type": "string"}},
                "text/markdown": {"schema": {"type": "string"}},
                "application/json": {"schema": {"type": "object"}},
            },
        },
    },
)
async def get_report(
    kiln: Farm, caller: Known, request: Request, name: Named, format: Format = "html", client: Whose = None
) -> Response:
    """As `kiln report` writes it."""

    def write() -> bytes:
        batch = whose(kiln, caller, client).open_batch(name)
        with tempfile.TemporaryDirectory(prefix="kiln-serve-") as folder:
            path = Path(folder) / "report"
            batch.report(path, format=format)
            return path.read_bytes()

    body = await heavily(request, write, "reports")  # which takes long: nobody's files wait for it
    policy = {"Content-Security-Policy": _REPORT_POLICY} if format == "html" else {}
    return Response(body, media_type=_MEDIA[format], headers=policy)


@router.post("/batches/{name}/{verb}", summary="Do something with a batch", responses=NOT_THERE)
def post_verb(
    kiln: WithBucket,
    caller: Known,
    name: Named,
    verb: Verb,
    priority: Priority | None = None,
    client: Whose = None,
) -> Done:
    """`retry` what failed; `cancel`, `pause` or `resume` what waits; `prioritize` it, with `priority`."""
    batch = whose(kiln, caller, client).open_batch(name)
    if (verb == "prioritize") != (priority is not None):
        raise ProblemError(422, "priority: goes with prioritize, and it with that", "priority")
    if verb == "retry":
        jobs = sum(was == "again" for was in batch.retry_failed().values())
    elif verb == "cancel":
        jobs = sum(was in ("queued", "started") for was in batch.cancel().values())
    elif priority is not None:
        jobs = batch.prioritize(priority)
    else:
        jobs = batch.pause() if verb == "pause" else batch.resume()
    return Done(name=name, verb=verb, jobs=jobs)
