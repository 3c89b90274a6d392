"""What happens, told to all who listen: one thread looks, however many they are, while there are any."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pixelkiln.jobs.batches.door import Mark
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.queue.door import chunks
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.web.listening import Event, Stream, event_of, more, told_of
from pixelkiln.jobs.web.problems import ProblemError, log
from pixelkiln.jobs.web.who import Caller

EVERY = 1.0  # seconds between two looks
OVERLAP = timedelta(seconds=60)  # that is looked back: machines' clocks differ
AT_ONCE = 500  # jobs that are read at once
MOST = 10_000  # that are looked at by one look: more changes between two looks are told as `more`
WHOLE = 10  # looks, of which one goes back through all of that time, known or not
WAITING = 2000  # of those that are known, which a whole look reads again while they are open
REMEMBERED = 2 * MOST  # jobs whose last status is known; so those of a whole look are
STREAMS = 1000  # at once
EACH = 250  # of one caller


class Streams:
    """All listeners of this process. Its methods are the event loop's to call."""

    def __init__(self, kiln: Kiln, every: float = EVERY) -> None:
        self._kiln, self._every = kiln, every
        self._streams: dict[Stream, str] = {}  # and whose each is
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: threading.Thread | None = None
        self._known: OrderedDict[str, JobStatus] = OrderedDict()  # the thread's alone
        self._told: Generator[tuple[str, str] | None] | None = None  # the thread's alone, too
        self._looks = 0
        self._looked: float | None = None  # when the last look began, by the monotonic clock
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
        for stream in self._streams:
            stream.close()

    def join(self) -> None:
        """Wait until the thread has ended, a second or so; not on the event loop."""
        if thread := self._looking:
            thread.join(10)

    def _tell(self, told: Sequence[Event]) -> None:
        """From the thread: let all hear."""

        def spread() -> None:
            for stream in self._streams:
                stream.put(told)

        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(spread)

    def _look(self) -> None:
        """The thread: until nobody listens."""
        while True:
            with self._lock:
                if not self._streams or self._ended:
                    self._looking = self._looked = None
                    break
            try:
                self._hear()
            except NotReadyError as error:
                if not self._away:
                    self._away = str(error)
                    self._tell([(None, event_of("away", {"detail": "the queue does not answer"}))])
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
            self._tell([(None, event_of("back", {}))])
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
        """Tell of each job whose status is another than the last one known.

        It looks at the newest 500, whatever is known of them, and goes on until it comes to what is known.
        """
        now, turn = time.monotonic(), self._looks
        self._looks = 0  # one that breaks off is followed by a whole one
        since = OVERLAP + timedelta(seconds=now - (self._looked or now))
        watched = {job_id for stream in list(self._streams) for job_id in stream.watched}
        running = {job_id for job_id, one in self._known.items() if one.state == "started"}
        self._forget(watched)
        page = self._kiln.marks(["started"], client=None, limit=AT_ONCE)
        ids, before = running | self._open(watched) | self._moved(page), None
        if turn % WHOLE == 0:  # a pause or another priority is of no moment by which a job is found
            waiting = {job_id for _, job_id in self._kiln.marks(["queued"], client=None, limit=AT_ONCE)}
            ids |= self._open(waiting.union(list(self._known)[-WAITING:]))
        for number in range(MOST // AT_ONCE):
            page = self._kiln.marks(client=None, since=since, limit=AT_ONCE, before=before)
            new = {job_id for moment, job_id in page if not self._is_known(job_id, moment)}
            self._read(new if number else new | ids | self._moved(page))
            if len(page) < AT_ONCE or not (new or turn % WHOLE == 0):
                break
            before = page[-1]
        else:
            if new:
                self._tell([(None, more())])
        self._looks, self._looked = turn + 1, now

    def _read(self, job_ids: set[str]) -> None:
        """Tell of those that fare otherwise than was known."""
        for some in chunks(sorted(job_ids), AT_ONCE):
            found = self._kiln.queue.statuses(some).values()
            told = [one for one in found if one is not None and self._known.get(one.id) != one]
            for status in told:
                self._remember(status)
            if told:
                self._tell([(one, event_of("job", told_of(one))) for one in told])

    def _forget(self, watched: set[str]) -> None:
        """Let go of those that ended so long ago that no look finds them again."""
        edge = f"{datetime.now(UTC) - 2 * OVERLAP:%Y-%m-%dT%H:%M:%S}"
        ended = [one.id for one in self._known.values() if one.ended and one.ended_at < edge]
        for job_id in ended:
            if job_id not in watched:
                del self._known[job_id]

    def _moved(self, marks: Iterable[Mark]) -> set[str]:
        """Those of which there may be more to tell: not those that are known to have ended then."""
        return {
            job_id
            for moment, job_id in marks
            if not (self._is_known(job_id, moment) and self._known[job_id].ended)
        }

    def _is_known(self, job_id: str, moment: str) -> bool:
        """Whether what happened to a job then is known."""
        one = self._known.get(job_id)
        return one is not None and moment in (one.ended_at, one.started_at, one.submitted_at)

    def _open(self, job_ids: set[str]) -> set[str]:
        return {one for one in job_ids if one not in self._known or not self._known[one].ended}

    def _preview(self, job_id: str) -> None:
        if job_id not in self._known:
            self._read({job_id})
        if status := self._known.get(job_id):
            self._tell([(status, event_of("preview", {"id": job_id}))])

    def _remember(self, status: JobStatus) -> None:
        self._known[status.id] = status
        self._known.move_to_end(status.id)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
