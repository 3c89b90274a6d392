"""What happens, as server-sent events: first how things stand, then each change."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pixelkiln.jobs.batches.door import Mark
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.queue.status import JobStatus, State
from pixelkiln.jobs.spec import Name
from pixelkiln.jobs.web.api.jobs import Id
from pixelkiln.jobs.web.lately import Lately
from pixelkiln.jobs.web.listening import Listening, Stream, body_of, event_of, events, id_of, more, told_of
from pixelkiln.jobs.web.openapi import NOT_THERE
from pixelkiln.jobs.web.streams import OVERLAP, Streams
from pixelkiln.jobs.web.who import Caller, Farm, Known, Whose, own, whose

router = APIRouter(tags=["events"])

PAGE = 500  # jobs of one look at how things stand
FIRST = 500  # of each open state that are told first
MISSED = 10_000  # that are told to who comes back
LONGEST = timedelta(days=1)  # that anybody was away
STEP = timedelta(seconds=10)  # to which that is rounded up, so that those who come back together ask the same
SHARED = 10  # of these looks that are kept

Standing = Lately[tuple[bytes, Mark | None]]

_EVENT: dict[str, Any] = {  # of the stream: OpenAPI 3.1 has no word of its own for an item
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "date-time"},
        "event": {"enum": ["job", "preview", "away", "back", "more"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
}
_STREAM: dict[int | str, dict[str, Any]] = {
    **NOT_THERE,
    200: {
        "description": "`job` with a job's status; `preview` with its id, when there is another one;"
        " `away` and `back` when the queue does not answer, and does again; `more` where more happened"
        " than is told: list the jobs anew.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    },
}
Since = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="of the last that came: what happened since is told"),
]


@router.get(
    "/jobs/{id}/events",
    summary="What happens to a job",
    response_class=Response,
    responses=_STREAM,
)
async def get_job_events(
    kiln: Farm, caller: Known, request: Request, id: Id, client: Whose = None
) -> Response:
    """Its status now and whenever it changes, until it has ended."""
    await run_in_threadpool(own, kiln, caller, id, client)

    def hears(status: JobStatus) -> bool:
        return status.id == id and caller.may_see(status)

    async def standing(stream: Stream) -> AsyncIterator[bytes]:
        _, status = await run_in_threadpool(own, kiln, caller, id, client)
        if status.ended:
            stream.close()
        yield event_of("job", told_of(status))

    return await _answer(request, caller, hears, standing, frozenset({id}))


@router.get("/events", summary="What happens", response_class=Response, responses=_STREAM)
async def get_events(
    kiln: Farm,
    caller: Known,
    request: Request,
    client: Annotated[Name | None, Query(description="an admin's to name; absent: all")] = None,
    since: Since = None,
) -> Response:
    """Jobs that wait or are rendered, and what happened since the last event that came; then each change."""
    theirs = whose(kiln, caller, client)
    named = client if caller.admin else caller.client
    standing: Standing = request.app.state.standing

    def hears(status: JobStatus) -> bool:
        return named is None or status.client == named

    return await _answer(request, caller, hears, lambda stream: _standing(theirs, named, since, standing))


async def _answer(
    request: Request,
    caller: Caller,
    hears: Callable[[JobStatus], bool],
    standing: Callable[[Stream], AsyncIterator[bytes]],
    watched: frozenset[str] = frozenset(),
) -> Response:
    """A stream that is listened to before it is looked how things stand, so that nothing falls between."""
    streams: Streams = request.app.state.streams
    stack = ExitStack()
    stream = stack.enter_context(streams.listening(caller, hears, watched))
    parts = standing(stream)
    try:
        first = await anext(parts)  # before the answer begins: what fails now is told by its status
    except BaseException:
        stack.close()
        raise

    async def body() -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n" + first
        try:
            async for part in parts:
                yield part
        except NotReadyError:
            yield more()
        async for part in events(stream, lambda: request.scope["holds"](caller), ends=bool(watched)):
            yield part

    return Listening(body(), stack, "text/event-stream")


async def _standing(
    kiln: Kiln, client: str | None, since: str | None, shared: Standing
) -> AsyncIterator[bytes]:
    """What is open, and what happened while the listener was away: by pages, as they are read.

    What comes last alone has an id: who leaves before that comes back with the one it had.
    """
    asked, began, away = time.monotonic(), datetime.now(UTC), _away(since)
    looks: list[tuple[State | None, timedelta | None, int]]
    looks = [("started", None, FIRST), ("queued", None, FIRST)]
    looks += [] if away is None else [(None, away, MISSED)]
    whole = away != LONGEST
    for state, ago, most in looks:
        before: Mark | None = None
        for _ in range(most // PAGE):
            # All come back at once when a server starts anew. A look must have begun since they listen.
            look = partial(_page, kiln, state, client, ago, before)
            part, before = await run_in_threadpool(shared.get, (state, client, ago, before), 0, look, asked)
            yield part
            if before is None:
                break
        else:
            whole = False
    yield id_of(began) + (b"\n" if whole else more())


def _page(
    kiln: Kiln, state: State | None, client: str | None, ago: timedelta | None, before: Mark | None
) -> tuple[bytes, Mark | None]:
    found, last = kiln.page(state=state, client=client, since=ago, limit=PAGE, before=before)
    return b"".join(body_of("job", told_of(one)) for one in reversed(found)), last


def _away(since: str | None) -> timedelta | None:
    """How long a listener was away, by the id of the last event that it had."""
    try:
        gone = datetime.now(UTC) - datetime.fromisoformat(since or "")
    except (ValueError, TypeError):  # no time, or one without a zone
        return None
    return min(max(gone, timedelta()) // STEP * STEP + STEP + OVERLAP, LONGEST)
