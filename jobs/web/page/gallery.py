"""*Gallery*: pictures, the newest first, by pages; their thumbnails; all of a filter as one zip."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.web.api.jobs import Id
from pixelkiln.jobs.web.api.listing import opened, sealed
from pixelkiln.jobs.web.page.frame import show
from pixelkiln.jobs.web.page.pictures import PAGE, Pictures, Wanted, Warnings
from pixelkiln.jobs.web.page.zips import zipped
from pixelkiln.jobs.web.parts import begun
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.reading import OrBucket, WithBucket
from pixelkiln.jobs.web.who import Caller, Known, Whose, own, whose

router = APIRouter()

NAMES = 50  # batches that are offered
KEPT = "private, max-age=31536000, immutable"

Filter = Annotated[Wanted, Query()]


@router.get("/gallery")
def get_gallery(
    request: Request, kiln: OrBucket, caller: Known, wanted: Filter, cursor: str | None = None
) -> Response:
    """One page of it; the cursor says where it begins."""
    found = pictures_of(request, kiln, caller, wanted)
    about = f"{caller.id} gallery {json.dumps(wanted.fields)}"
    before = opened(cursor, about, request.app.state.seal) if cursor else None
    cards, last, looked = found.page(before)
    theirs = whose(kiln, caller, wanted.client or None)
    return show(
        request,
        "gallery.html",
        wanted=wanted,
        cards=cards,
        next=None if last is None else sealed(last, about, request.app.state.seal),
        looked=looked if len(cards) < PAGE and last else 0,
        first=before is None,
        models=list(CATALOGUE),
        batches=list(theirs.queue.batches(theirs.settings.client))[:NAMES],
        days=kiln.settings.result_days,
    )


@router.get("/gallery.zip")
def get_zip(request: Request, kiln: WithBucket, caller: Known, wanted: Filter) -> Response:
    """All of a filter, each with the record beside it, as they come from the bucket."""
    found = pictures_of(request, kiln, caller, wanted)
    name = wanted.batch or f"pictures-{datetime.now():%Y-%m-%d}"
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(begun(zipped(found)), headers=headers, media_type="application/zip")


@router.get("/thumbnails/{id}")
async def get_thumbnail(
    request: Request, kiln: WithBucket, caller: Known, id: Id, v: str | None = None, client: Whose = None
) -> Response:
    """A picture's smaller one; the first who asks waits until it is made."""
    theirs, status = await run_in_threadpool(own, kiln, caller, id, client)
    sha256 = status.result.sha256 if status.result else ""
    headers = {"ETag": f'"{sha256[:16]}"', "Cache-Control": KEPT if v == sha256[:16] else "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    body = await run_in_threadpool(theirs.thumbnail, status, make=False)
    if body is None:
        making: anyio.CapacityLimiter = request.app.state.making

        def make() -> bytes | None:
            return theirs.thumbnail(status, make=False) or theirs.thumbnail(status)

        body = await anyio.to_thread.run_sync(make, limiter=making)
    if body is None:
        raise ProblemError(404, "there is no picture of it")
    return Response(body, headers=headers, media_type="image/webp")


@router.get("/previews/{id}")
def get_preview(kiln: OrBucket, caller: Known, id: Id) -> Response:
    """What a job looks like so far; addresses have a step behind a question mark, so that each is new."""
    theirs, _ = own(kiln, caller, id)
    found = theirs.preview(id)
    if found is None:
        raise ProblemError(404, "there is no preview of it now")
    return Response(found, media_type="image/webp")


def pictures_of(request: Request, kiln: Kiln, caller: Caller, wanted: Wanted) -> Pictures:
    """What a filter lets through of what a caller may see."""
    warnings: Warnings = request.app.state.warnings
    return Pictures(kiln, caller, wanted, warnings)
