"""One who listens to what happens: what waits for it, and the answer that it reads."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pixelkiln.jobs.queue.status import JobStatus

BEHIND = 10_000  # events that one listener may be behind
TOGETHER = 64  # that are sent as one part
ALIVE = 15.0  # seconds of silence after which a line says that the stream is there

Event = tuple[JobStatus | None, bytes]  # whose job it is about, if any, and what is sent


class Stream:
    """One listener."""

    def __init__(self, hears: Callable[[JobStatus], bool], watched: frozenset[str]) -> None:
        self.hears, self.watched = hears, watched
        self.waiting: deque[Event] = deque()  # all streams share the events themselves
        self._closed = False
        self._due = asyncio.Event()

    def put(self, told: Iterable[Event]) -> None:
        """Let it hear; where it is too far behind, in place of what it has not heard that there is more."""
        self.waiting += [one for one in told if one[0] is None or self.hears(one[0])]
        if len(self.waiting) > BEHIND:
            self.waiting.clear()
            self.waiting.append((None, more()))
        if self.waiting:
            self._due.set()

    def close(self) -> None:
        """End it, whatever waits."""
        self._closed = True
        self._due.set()

    async def next(self, wait: float = ALIVE) -> list[Event] | None:
        """The next events; none after silence; None at the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._due.wait(), wait)
        if self._closed:
            return None
        found = [self.waiting.popleft() for _ in range(min(len(self.waiting), TOGETHER))]
        if not self.waiting:
            self._due.clear()
        return found


def told_of(status: JobStatus) -> dict[str, Any]:
    """A job's status as streams tell it."""
    return asdict(status) | {"client": status.client}


def event_of(kind: str, data: dict[str, Any]) -> bytes:
    """One server-sent event; its id is when it was sent, from which who comes back begins."""
    return id_of(datetime.now(UTC)) + body_of(kind, data)


def body_of(kind: str, data: dict[str, Any]) -> bytes:
    """The same without an id."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return f"event: {kind}\ndata: {text}\n\n".encode()


def id_of(moment: datetime) -> bytes:
    """The line of an id."""
    return f"id: {moment:%Y-%m-%dT%H:%M:%S.%fZ}\n".encode()


def more() -> bytes:
    """What is told where more happened than is told, without an id: list the jobs anew."""
    return body_of("more", {"detail": "more happened than is told here: list /v1/jobs anew"})


async def events(stream: Stream, holds: Callable[[], bool], ends: bool = False) -> AsyncIterator[bytes]:
    """What happens, for as long as it `holds`; `ends`: until the job that it is about has ended."""
    while (found := await stream.next()) is not None and holds():
        yield b"".join(event for _, event in found) or b": \n\n"
        if ends and any(status is not None and status.ended for status, _ in found):
            return


class Listening(StreamingResponse):
    """An answer that listens until it is sent, or until nobody waits for it, even before it began."""

    def __init__(self, body: AsyncIterator[bytes], listening: ExitStack, media_type: str) -> None:
        super().__init__(body, media_type=media_type)
        self._listening = listening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._listening:
            await super().__call__(scope, receive, send)
