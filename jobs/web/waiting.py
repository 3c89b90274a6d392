"""An answer that waits for pictures: its connection is kept alive, and they are passed on as they come."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import Request
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.queue.queue import Submitted
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.web import problems
from pixelkiln.jobs.web.links import link
from pixelkiln.jobs.web.listening import Stream
from pixelkiln.jobs.web.streams import Streams
from pixelkiln.jobs.web.who import Caller

SILENT = 10.0  # seconds, then the answer begins; and until the next sign that it goes on


class _Wait:
    """Until all of some jobs have ended."""

    def __init__(self, kiln: Kiln, ids: Sequence[str], stream: Stream) -> None:
        self._kiln, self._ids, self._stream = kiln, ids, stream
        self.found: dict[str, JobStatus] = {}

    async def over(self, seconds: float) -> bool:
        """Whether all have ended, within so long."""
        if not self.found:  # after listening began, so that no end falls between
            statuses = await run_in_threadpool(self._kiln.statuses, self._ids)
            self.found = {one: status for one, status in statuses.items() if status is not None}
        deadline = time.monotonic() + seconds
        while not all(one in self.found and self.found[one].ended for one in self._ids):
            left = deadline - time.monotonic()
            heard = await self._stream.next(left) if left > 0 else []
            if heard is None:
                told = "the server ends; ask again with the same Idempotency-Key"
                raise problems.ProblemError(503, told, headers={"Retry-After": str(problems.AGAIN)})
            if left <= 0:
                return False
            self.found |= {status.id: status for status, _ in heard if status is not None}
        return True

    @property
    def failed(self) -> str:
        """Why there is no picture of one; '' where there is one of each."""
        for one in self._ids:
            status = self.found[one]
            if status.state != "finished":
                return f"job {one} is {status.state}: {status.error}".removesuffix(": ")
        return ""


async def rendered(
    request: Request, kiln: Kiln, caller: Caller, jobs: Sequence[Submitted], form: str
) -> Response:
    """The pictures of jobs as OpenAI's clients read them, in base64 or as addresses."""
    streams: Streams = request.app.state.streams
    ids = frozenset(job.id for job in jobs)
    stack = ExitStack()
    try:
        stream = stack.enter_context(streams.listening(caller, lambda status: status.id in ids, ids))
        wait = _Wait(kiln, sorted(ids), stream)
        over = await wait.over(SILENT)
    except BaseException:
        stack.close()
        raise
    if over and wait.failed:
        stack.close()
        told = {"x-should-retry": "false"}  # OpenAI's clients would render it anew
        return JSONResponse(problems.openai_error(500, wait.failed), 500, told)

    async def body() -> AsyncIterator[bytes]:
        with stack:
            while not await wait.over(SILENT):
                yield b" "
        if wait.failed:
            error = problems.openai_error(500, wait.failed)
            yield json.dumps({"created": int(time.time()), "data": [], **error}).encode()
            return
        parts = _pictures(request, kiln, [(job, wait.found[job.id]) for job in jobs], form)
        async for part in iterate_in_threadpool(parts):
            yield part

    return StreamingResponse(body(), media_type="application/json")


def _pictures(
    request: Request, kiln: Kiln, jobs: Sequence[tuple[Submitted, JobStatus]], form: str
) -> Iterator[bytes]:
    """The answer's JSON, piece by piece: ten large pictures are never in memory at once."""
    yield f'{{"created":{int(time.time())},"output_format":"png","data":['.encode()
    for number, (job, status) in enumerate(jobs):
        about: dict[str, Any] = {"id": job.id, "seed": job.spec.seed}
        if form == "url":
            about["url"] = _address(request, kiln, status)
        yield (b"," if number else b"") + json.dumps(about)[:-1].encode()
        if form == "b64_json":
            yield b',"b64_json":"'
            yield from _base64(kiln.picture(kiln.sidecar_of(status)))
            yield b'"'
        yield b"}"
    yield b"]}"


def _address(request: Request, kiln: Kiln, status: JobStatus) -> str:
    if kiln.settings.image_links:
        return kiln.bucket.link(kiln.sidecar_of(status).png.key, 3600)
    return str(request.base_url).rstrip("/") + link(request.app.state.seal, status.client, status.id)


def _base64(parts: Iterator[bytes]) -> Iterator[bytes]:
    left = b""
    for part in parts:
        whole = left + part
        cut = len(whole) - len(whole) % 3
        left = whole[cut:]
        yield base64.b64encode(whole[:cut])
    yield base64.b64encode(left)
