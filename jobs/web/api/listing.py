"""Jobs by pages, the newest first. A cursor says where the next begins, and is bound to what was asked."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, urlsafe_b64encode
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from pixelkiln.jobs.batches.door import Mark
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.queue.status import State
from pixelkiln.jobs.spec import Name
from pixelkiln.jobs.web.api.jobs import Job, jobs_of
from pixelkiln.jobs.web.openapi import NOT_THERE
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.reading import OrBucket
from pixelkiln.jobs.web.who import Known, whose

router = APIRouter(tags=["jobs"])

SEAL = 16  # bytes
BatchName = Annotated[str, Field(pattern=f"^{JOB_ID.pattern}$")]


class Wanted(BaseModel):
    """Which jobs."""

    model_config = ConfigDict(extra="forbid")

    state: State | None = None
    batch: BatchName | None = None
    client: Name | None = Field(None, description="an admin's to name; absent: all, or the token's own")
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=500, description="`next` of the page before")

    @property
    def about(self) -> str:
        """What a cursor is bound to."""
        return json.dumps([self.state, self.batch, self.client])


class Page(BaseModel):
    """Some jobs, and where the next ones begin."""

    jobs: list[Job]
    next: str | None  # the cursor of the next page; null where this is the last


@router.get("/jobs", summary="The newest jobs", responses=NOT_THERE)
def get_jobs(kiln: OrBucket, caller: Known, request: Request, wanted: Annotated[Wanted, Query()]) -> Page:
    """Those that the queue remembers, by what last happened to them; of a batch, those stored, too."""
    key, about = request.app.state.seal, f"{caller.id} {wanted.about}"
    before = None if wanted.cursor is None else opened(wanted.cursor, about, key)
    theirs = whose(kiln, caller, wanted.client)
    if wanted.batch is not None:
        found, last = theirs.open_batch(wanted.batch).page(wanted.state, wanted.limit, before)
    else:
        client = None if caller.admin and wanted.client is None else theirs.settings.client
        found, last = theirs.page(state=wanted.state, client=client, limit=wanted.limit, before=before)
    return Page(jobs=jobs_of(theirs, found), next=None if last is None else sealed(last, about, key))


def sealed(mark: Mark, about: str, key: bytes) -> str:
    """A mark as a cursor."""
    body = json.dumps(mark).encode()
    return urlsafe_b64encode(_seal(body, about, key) + body).decode()


def opened(cursor: str, about: str, key: bytes) -> Mark:
    """The mark of a cursor. Raises ProblemError for one that was not given for the same question."""
    try:
        text = b64decode(cursor, b"-_", validate=True)
    except ValueError:
        text = b""
    seal, body = text[:SEAL], text[SEAL:]
    if not hmac.compare_digest(seal, _seal(body, about, key)):
        raise ProblemError(422, "cursor: is none that was given for this; begin without one", "cursor")
    when, job_id = json.loads(body)
    return when, job_id


def _seal(body: bytes, about: str, key: bytes) -> bytes:
    return hmac.new(key, about.encode() + b"\0" + body, hashlib.sha256).digest()[:SEAL]
