"""An answer that waits for pictures: its connection is kept alive, and they are passed on as they come."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import JobFailedError, KilnError
from pixelkiln.jobs.queue.queue import Submitted
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.web import problems
from pixelkiln.jobs.web.links import link
from pixelkiln.jobs.web.listening import Listening, Stream
from pixelkiln.jobs.web.parts import begun
from pixelkiln.jobs.web.reading import reading
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

    def check(self) -> None:
        """Raise JobFailedError where there is no picture of one."""
        for one in self._ids:
            status = self.found[one]
            if status.state != "finished":
                raise JobFailedError(f"job {one} is {status.state}: {status.error}".removesuffix(": "))


async def rendered(
    request: Request, kiln: Kiln, caller: Caller, jobs: Sequence[Submitted], form: str
) -> Response:
    """The pictures of jobs as OpenAI's clients read them, in base64 or as addresses."""
    streams: Streams = request.app.state.streams
    ids = frozenset(job.id for job in jobs)

    def pictures() -> AsyncIterator[bytes]:
        wait.check()
        return begun(_pictures(request, kiln, [(job, wait.found[job.id]) for job in jobs], form))

    stack = ExitStack()
    try:
        stream = stack.enter_context(streams.listening(caller, lambda status: status.id in ids, ids))
        wait = _Wait(kiln, sorted(ids), stream)
        if await wait.over(SILENT):
            parts = await reading(request, caller, pictures)
            stack.close()
            return StreamingResponse(parts, media_type="application/json")
    except KilnError as error:
        stack.close()
        status, words, headers = _told(error, caller)
        if status != 503 or "idempotency-key" not in request.headers:
            headers["x-should-retry"] = "false"  # OpenAI's clients would render it anew
        return JSONResponse(problems.openai_error(status, words), status, headers)
    except BaseException:
        stack.close()
        raise

    async def body() -> AsyncIterator[bytes]:
        try:
            while not await wait.over(SILENT):
                yield b" "
            stack.close()
            parts = await reading(request, caller, pictures)
        except (KilnError, problems.ProblemError) as error:
            status, words, _ = _told(error, caller)
            failed = {"created": int(time.time()), "data": [], **problems.openai_error(status, words)}
            yield json.dumps(failed).encode()
            return
        async for part in parts:
            yield part

    return Listening(body(), stack, "application/json")


def _told(error: KilnError | problems.ProblemError, caller: Caller) -> tuple[int, str, dict[str, str]]:
    """Status, words and headers: it is not the client's fault that a job failed."""
    if isinstance(error, problems.ProblemError):
        return error.status_code, error.detail, {}
    if isinstance(error, JobFailedError):
        return 500, str(error), {}
    return problems.of_error(error, caller.admin)


def _pictures(
    request: Request, kiln: Kiln, jobs: Sequence[tuple[Submitted, JobStatus]], form: str
) -> Iterator[bytes]:
    """The answer's JSON, piece by piece: ten large pictures are never in memory at once.

    Before the first piece there are all records, and a part of the first picture.
    """
    sidecars = [kiln.sidecar_of(status) for _, status in jobs]
    before = f'{{"created":{int(time.time())},"output_format":"png","data":['
    for (job, status), sidecar in zip(jobs, sidecars, strict=True):
        about: dict[str, Any] = {"id": job.id, "seed": job.spec.seed}
        if form == "url":
            about["url"] = _address(request, kiln, status, sidecar)
        text = before + json.dumps(about)[:-1]
        if form == "b64_json":
            parts = _base64(kiln.picture(sidecar))
            yield f'{text},"b64_json":"'.encode() + next(parts)
            yield from parts
            text = '"'
        yield f"{text}}}".encode()
        before = ","
    yield b"]}"


def _address(request: Request, kiln: Kiln, status: JobStatus, sidecar: Sidecar) -> str:
    if kiln.settings.image_links:
        return kiln.bucket.link(sidecar.png.key, 3600)
    return str(request.base_url).rstrip("/") + link(request.app.state.seal, status.client, status.id)


def _base64(parts: Iterator[bytes]) -> Iterator[bytes]:
    left = b""
    for part in parts:
        whole = left + part
        cut = len(whole) - len(whole) % 3
        left = whole[cut:]
        yield base64.b64encode(whole[:cut])
    yield base64.b64encode(left)
