"""A job's picture, what it looks like so far, and the record beside it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from starlette.responses import RedirectResponse, StreamingResponse

from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.web.api.jobs import Id
from pixelkiln.jobs.web.openapi import NOT_THERE
from pixelkiln.jobs.web.parts import begun
from pixelkiln.jobs.web.problems import Problem, ProblemError
from pixelkiln.jobs.web.reading import OrBucket, WithBucket
from pixelkiln.jobs.web.who import Known, Whose, own

LINKED = 300  # seconds for which an address in the bucket is good, where browsers are sent there

router = APIRouter(tags=["pictures"])

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PICTURE: dict[int | str, dict[str, Any]] = {
    **NOT_THERE,
    200: {"description": "The picture.", "content": {"image/png": _BINARY}},
    206: {"description": "The part of it that Range names.", "content": {"image/png": _BINARY}},
    304: {"description": "It is the one that If-None-Match names."},
    307: {"description": "Where it lies in the bucket, for some minutes (KILN_IMAGE_LINKS)."},
    409: {"model": Problem, "description": "There is none: the job has not finished."},
    416: {"model": Problem, "description": "There is no such part."},
    502: {"model": Problem, "description": "What the bucket has is not what was stored."},
}
_SIDECAR: dict[int | str, dict[str, Any]] = {status: _PICTURE[status] for status in (404, 409, 502)}


Sealed = Annotated[
    str | None, Query(alias="of", description="of an address that the server made, and that needs no token")
]


@router.get("/jobs/{id}/image", summary="The picture", response_class=Response, responses=_PICTURE)
def get_image(
    kiln: WithBucket,
    caller: Known,
    id: Id,
    wanted: Annotated[str | None, Header(alias="Range")] = None,
    have: Annotated[str | None, Header(alias="If-None-Match")] = None,
    unless: Annotated[str | None, Header(alias="If-Range")] = None,
    client: Whose = None,
    _of: Sealed = None,
    _until: Annotated[str | None, Query(alias="until", description="likewise")] = None,
    _seal: Annotated[str | None, Query(alias="seal", description="likewise")] = None,
) -> Response:
    """A PNG, as it is stored; its ETag is its sha256. With KILN_IMAGE_LINKS it is the bucket's to answer."""
    theirs, status = own(kiln, caller, id, client)
    sidecar = theirs.sidecar_of(status)
    if kiln.settings.image_links:  # whatever is had already: the address that led there ends
        told = {"Cache-Control": "no-store"}
        return RedirectResponse(theirs.bucket.link(sidecar.png.key, LINKED), headers=told)
    tag, size = f'"{sidecar.png.sha256}"', sidecar.png.bytes
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Accept-Ranges": "bytes"}
    if have is not None and (have.strip() == "*" or tag in re.findall(r'"[^"]*"', have)):
        return Response(status_code=304, headers=headers)
    part = _part(wanted, size) if unless in (None, tag) else None
    first, last = part or (0, size - 1)
    headers |= {"Content-Length": str(last + 1 - first)}
    if part:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    body = begun(theirs.picture(sidecar, first, last))
    return StreamingResponse(body, 206 if part else 200, headers, media_type="image/png")


@router.get("/jobs/{id}/sidecar", summary="The record beside the picture", responses=_SIDECAR)
def get_sidecar(kiln: WithBucket, caller: Known, id: Id, client: Whose = None) -> Sidecar:
    """What was run, where, and how long it took."""
    theirs, status = own(kiln, caller, id, client)
    return theirs.sidecar_of(status)


@router.get(
    "/jobs/{id}/preview",
    summary="What it looks like so far",
    response_class=Response,
    responses={**NOT_THERE, 200: {"description": "A small one.", "content": {"image/webp": _BINARY}}},
)
def get_preview(kiln: OrBucket, caller: Known, id: Id, client: Whose = None) -> Response:
    """While it is rendered, a WebP of at most 256 pixels a side; anew each second or so."""
    theirs, _ = own(kiln, caller, id, client)
    found = theirs.preview(id)
    if found is None:
        raise ProblemError(404, "there is no preview of it now")
    return Response(found, media_type="image/webp")


def _part(wanted: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of what a Range names; None for the whole: of several parts, too."""
    found = _RANGE.fullmatch(wanted.replace(" ", "")) if wanted else None
    if found is None or found.groups() == ("", ""):
        return None
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < first:
            return None  # no range at all, as the standard has it
    else:  # the last so many
        first, last = max(0, size - int(found[2])), size - 1
    if first >= size:
        told = {"Content-Range": f"bytes */{size}"}
        raise ProblemError(416, f"the picture has {size:,} bytes", "Range", told)
    return first, last
