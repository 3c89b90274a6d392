"""What happens, told to all who listen: one thread looks, however many they are, while there are any."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.web.problems import ProblemError, log
from pixelkiln.jobs.web.who import Caller

EVERY = 1.0  # seconds between two looks
OVERLAP = timedelta(seconds=60)  # that is looked back: machines' clocks differ
AT_ONCE = 500  # jobs of one look
REMEMBERED = 10_000  # jobs whose last status is known
WAITING = 256  # events that one listener may be behind; who is further comes back, and gets what stands then
STREAMS = 1000  # at once
EACH = 250  # of one caller
ALIVE = 15.0  # seconds of silence after which a line says that the stream is there
GOODBYE = b""


class Stream:
    """One listener."""

    def __init__(self, hears: Callable[[JobStatus], bool], watched: frozenset[str]) -> None:
        self.hears, self.watched = hears, watched
        self.events: asyncio.Queue[tuple[JobStatus | None, bytes]] = asyncio.Queue(WAITING)
        self.closed = False

    def put(self, status: JobStatus | None, event: bytes) -> None:
        """Let it hear; where it is too far behind, end it."""
        if self.closed or (status is not None and not self.hears(status)):
            return
        if self.events.full() or event == GOODBYE:
            self.closed = True
            while not self.events.empty():
                self.events.get_nowait()
            event = GOODBYE
        self.events.put_nowait((status, event))

    async def next(self, wait: float = ALIVE) -> tuple[JobStatus | None, bytes] | None:
        """The next event and whose job it is about; a comment after silence; None at the end."""
        try:
            status, event = await asyncio.wait_for(self.events.get(), wait)
        except TimeoutError:
            return None, b": \n\n"
        return None if event == GOODBYE else (status, event)


class Streams:
    """All listeners of this process. Its methods are the event loop's to call."""

    def __init__(self, kiln: Kiln, every: float = EVERY) -> None:
        self._kiln, self._every = kiln, every
        self._streams: dict[Stream, str] = {}  # and whose each is
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: threading.Thread | None = None
        self._known: OrderedDict[str, JobStatus] = OrderedDict()  # the thread's alone
        self._told: Generator[tuple[str, str] | None] | None = None  # the thread's alone, too
        self._away = ""
        self._ended = False
        self._lock = threading.Lock()

    @contextmanager
    def listening(
        self, caller: Caller, hears: Callable[[JobStatus], bool], watched: Iterable[str] = ()
    ) -> Any:
        """A Stream of what `hears` lets through; jobs that are `watched` are looked at each time.

        Raises ProblemError where too many listen.
        """
        if list(self._streams.values()).count(caller.id) >= EACH:
            raise ProblemError(429, f"at most {EACH} streams at once", headers={"Retry-After": "60"})
        if len(self._streams) >= STREAMS or self._ended:
            raise ProblemError(503, "too many streams now", headers={"Retry-After": "60"})
        stream = Stream(hears, frozenset(watched))
        self._loop = asyncio.get_running_loop()
        with self._lock:
            self._streams[stream] = caller.id
            if self._looking is None:
                self._looking = threading.Thread(target=self._look, name="streams", daemon=True)
                self._looking.start()
        try:
            yield stream
        finally:
            del self._streams[stream]

    def close(self) -> None:
        """End all streams."""
        self._ended = True
        for stream in list(self._streams):
            stream.put(None, GOODBYE)

    def join(self) -> None:
        """Wait until the thread has ended, a second or so; not on the event loop."""
        if thread := self._looking:
            thread.join(10)

    def _tell(self, status: JobStatus | None, event: bytes) -> None:
        """From the thread: let all hear."""

        def spread() -> None:
            for stream in list(self._streams):
                stream.put(status, event)

        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(spread)

    def _look(self) -> None:
        """The thread: until nobody listens."""
        while True:
            with self._lock:
                if not self._streams or self._ended:
                    self._looking = None
                    break
            try:
                self._hear()
            except NotReadyError as error:
                if not self._away:
                    self._away = str(error)
                    self._tell(None, event_of("away", {"detail": "the queue does not answer"}))
                time.sleep(self._every)
            except Exception:  # the next look may be better, and nobody else looks
                log.exception("events cannot be told")
                time.sleep(self._every)
        if self._told is not None:
            self._told.close()
            self._told = None

    def _hear(self) -> None:
        """Look, then hear what workers tell until it is time for the next look."""
        self._find()
        if self._away:
            self._away = ""
            self._tell(None, event_of("back", {}))
        deadline = time.monotonic() + self._every
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._told = self._told or self._kiln.told(self._every)
                hint = next(self._told)
            except NotReadyError:  # this user may not listen, or Redis is away, as the next look finds
                self._told = None
                time.sleep(left)
                return
            if hint is not None and hint[0] == "preview":
                self._preview(hint[1])

    def _find(self) -> None:
        """Tell of each job whose status is another than the last one known."""
        started = self._kiln.marks(["started"], client=None, limit=AT_ONCE)
        touched = self._kiln.marks(client=None, since=OVERLAP, limit=AT_ONCE)
        watched = {job_id for stream in list(self._streams) for job_id in stream.watched}
        running = {job_id for job_id, one in self._known.items() if one.state == "started"}
        self._forget(watched)
        moved = {job_id for moment, job_id in (*started, *touched) if not self._ended_at(job_id, moment)}
        ids = moved | running | self._open(watched)
        for start in range(0, len(some := sorted(ids)), AT_ONCE):
            for job_id, status in self._kiln.queue.statuses(some[start : start + AT_ONCE]).items():
                if status is not None and self._known.get(job_id) != status:
                    self._remember(status)
                    self._tell(status, event_of("job", told_of(status)))

    def _forget(self, watched: set[str]) -> None:
        """Let go of those that ended so long ago that no look finds them again."""
        edge = f"{datetime.now(UTC) - 2 * OVERLAP:%Y-%m-%dT%H:%M:%S}"
        ended = [one.id for one in self._known.values() if one.ended and one.ended_at < edge]
        for job_id in ended:
            if job_id not in watched:
                del self._known[job_id]

    def _ended_at(self, job_id: str, moment: str) -> bool:
        """Whether it is known that a job ended then: until it is tried again there is no more to tell."""
        known = self._known.get(job_id)
        return known is not None and known.ended and known.ended_at == moment

    def _open(self, job_ids: set[str]) -> set[str]:
        return {one for one in job_ids if one not in self._known or not self._known[one].ended}

    def _preview(self, job_id: str) -> None:
        status = self._known.get(job_id) or self._kiln.queue.statuses([job_id])[job_id]
        if status is not None:
            self._remember(status)
            self._tell(status, event_of("preview", {"id": job_id}))

    def _remember(self, status: JobStatus) -> None:
        self._known[status.id] = status
        self._known.move_to_end(status.id)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def told_of(status: JobStatus) -> dict[str, Any]:
    """A job's status as streams tell it."""
    return asdict(status) | {"client": status.client}


def event_of(kind: str, data: dict[str, Any]) -> bytes:
    """One server-sent event; its id is when it was sent, from which who comes back begins."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return f"id: {datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}\nevent: {kind}\ndata: {text}\n\n".encode()


async def events(stream: Stream, before: Iterable[bytes], ends: bool = False) -> AsyncIterator[bytes]:
    """What stands, then what happens; `ends`: with the end of the job that it is about."""
    yield b"retry: 2000\n\n"
    for event in before:
        yield event
    while (found := await stream.next()) is not None:
        status, event = found
        yield event
        if ends and status is not None and status.ended:
            return
