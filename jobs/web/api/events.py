"""What happens, as server-sent events: first how things stand, then each change."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.spec import Name
from pixelkiln.jobs.web.api.jobs import Id
from pixelkiln.jobs.web.lately import Lately
from pixelkiln.jobs.web.openapi import NOT_THERE
from pixelkiln.jobs.web.streams import OVERLAP, Streams, event_of, events, told_of
from pixelkiln.jobs.web.who import Caller, Farm, Known, own, whose

router = APIRouter(tags=["events"])

FIRST = 200  # jobs of each open state that are told first
MISSED = 1000  # that are told to who comes back
LONGEST = timedelta(days=1)  # that anybody was away
STEP = timedelta(seconds=10)  # to which that is rounded up, so that those who come back together ask the same
SHARED = 10  # looks at how things stand that are kept

_EVENT: dict[str, Any] = {  # of the stream: OpenAPI 3.1 has no word of its own for an item
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "date-time"},
        "event": {"enum": ["job", "preview", "away", "back"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
}
_STREAM: dict[int | str, dict[str, Any]] = {
    **NOT_THERE,
    200: {
        "description": "`job` with a job's status; `preview` with its id, when there is another one;"
        " `away` and `back` when the queue does not answer, and does again.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    },
}
Since = Annotated[
    str | None, Header(alias="Last-Event-ID", description="of the last event that came: nothing is missed")
]


@router.get(
    "/jobs/{id}/events",
    summary="What happens to a job",
    response_class=Response,
    responses=_STREAM,
)
async def get_job_events(kiln: Farm, caller: Known, request: Request, id: Id) -> Response:
    """Its status now and whenever it changes, until it has ended."""
    theirs, _ = await run_in_threadpool(own, kiln, caller, id)

    def hears(status: JobStatus) -> bool:
        return status.id == id and caller.may_see(status)

    async def first() -> tuple[list[bytes], bool]:
        status = await run_in_threadpool(theirs.status, id)
        return [event_of("job", told_of(status))], status.ended

    return await _answer(request, caller, hears, first, frozenset({id}))


@router.get("/events", summary="What happens", response_class=Response, responses=_STREAM)
async def get_events(
    kiln: Farm,
    caller: Known,
    request: Request,
    client: Annotated[Name | None, Query(description="an admin's to name; absent: all")] = None,
    since: Since = None,
) -> Response:
    """Jobs that wait or are rendered, and what ended since the last event that came; then each change."""
    theirs = whose(kiln, caller, client)
    named = client if caller.admin else caller.client

    def hears(status: JobStatus) -> bool:
        return named is None or status.client == named

    async def first() -> tuple[list[bytes], bool]:
        away, asked = _away(since), time.monotonic()
        standing: Lately[list[bytes]] = request.app.state.standing

        def look() -> list[bytes]:
            # All come back at once when a server starts anew. A look must have begun since they listen.
            return standing.get((named, away), 0, lambda: _standing(theirs, named, away), asked)

        return await run_in_threadpool(look), False

    return await _answer(request, caller, hears, first)


async def _answer(
    request: Request,
    caller: Caller,
    hears: Callable[[JobStatus], bool],
    first: Callable[[], Any],
    watched: frozenset[str] = frozenset(),
) -> Response:
    """A stream that is listened to before it is looked how things stand, so that nothing falls between."""
    streams: Streams = request.app.state.streams
    context = streams.listening(caller, hears, watched)
    stream = context.__enter__()
    try:
        before, over = await first()
    except BaseException:
        context.__exit__(None, None, None)
        raise

    async def body() -> AsyncIterator[bytes]:
        try:
            if over:
                for event in before:
                    yield event
                return
            async for event in events(stream, before, ends=bool(watched)):
                yield event
        finally:
            context.__exit__(None, None, None)

    return StreamingResponse(body(), media_type="text/event-stream")


def _standing(kiln: Kiln, client: str | None, away: timedelta | None) -> list[bytes]:
    """What is open, and what happened while the listener was away; the oldest first."""
    open_states: tuple[Literal["queued", "started"], ...] = ("queued", "started")
    found = [one for state in open_states for one in kiln.page(state=state, client=client, limit=FIRST)[0]]
    if away is not None:
        found += kiln.page(client=client, since=away, limit=MISSED)[0]
    known = {one.id: one for one in reversed(found)}
    return [event_of("job", told_of(one)) for one in known.values()]


def _away(since: str | None) -> timedelta | None:
    """How long a listener was away, by the id of the last event that it had."""
    try:
        gone = datetime.now(UTC) - datetime.fromisoformat(since or "")
    except (ValueError, TypeError):  # no time, or one without a zone
        return None
    return min(max(gone, timedelta()) // STEP * STEP + STEP + OVERLAP, LONGEST)
