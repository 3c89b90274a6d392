"""What is to be told, in Redis: ends that workers and producers note, and what is sent to each address.

kiln:ends says who ended, no more; what is told of it is read from the job's record, which is the one table of
how jobs fare. It stands there only while a worker tells: without it, noting an end writes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.plain import count
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.worker.telling.events import Event, Settled

DAY = 86_400.0
FIRST, LONGEST = 10.0, 3600.0  # seconds between two tries at an event, doubled from try to try
AT_ONCE = 100  # ends that are looked at in one go
MOST = 10_000  # events that wait for one address
KEPT = int(2 * DAY)  # seconds that Redis keeps what nobody tells any more
KEPT_TOLD = int(60 * DAY)  # which end of a batch was told
TURN = 15  # seconds that one worker tells, unless it says so again


@dataclass(frozen=True, slots=True)
class Due:
    """One event that is to be sent to one address."""

    event: str
    body: str
    since: float  # when it was first due, seconds since 1970
    tries: int  # in vain

    @property
    def pause(self) -> float:
        """Seconds until the try after this one."""
        return min(LONGEST, FIRST * 2.0 ** min(self.tries, 30))


class Outbox:
    """The places in Redis. Every call may be made again; all raise redis.RedisError."""

    def __init__(
        self, connection: redis.Redis, worker: str, hooks: Sequence[str], now: Callable[[], float] = time.time
    ) -> None:
        self.connection = connection
        self._worker = worker.encode()
        self._hooks = hooks  # names of the addresses
        self._now = now

    def my_turn(self) -> bool:
        """Whether it is this worker that tells, for all."""
        if not self.connection.set(keys.TELLER, self._worker, nx=True, ex=TURN):
            if self.connection.get(keys.TELLER) != self._worker:
                return False
            self.connection.expire(keys.TELLER, TURN)
        return True

    def yield_turn(self) -> None:
        """Let another tell."""
        if self.connection.get(keys.TELLER) == self._worker:
            self.connection.unlink(keys.TELLER)

    def open(self) -> None:
        """Let ends be noted, for KEPT seconds from now on."""
        if self.connection.type(keys.ENDS) not in (b"stream", b"none"):
            self.connection.unlink(keys.ENDS)
        if not self.connection.exists(keys.ENDS):
            self.connection.xadd(keys.ENDS, {"job": ""})
        self.connection.expire(keys.ENDS, KEPT)

    def ended(self) -> list[tuple[str, str]]:
        """The oldest notes: their ids, and the jobs that they are about, '' for none that can be one."""
        found: Any = self.connection.xrevrange(keys.ENDS)  # read whole: a worker has no right to more
        oldest = reversed(found[-AT_ONCE:])
        jobs = ((note.decode(), _text((fields or {}).get(b"job", b""))) for note, fields in oldest)
        return [(note, job if JOB_ID.fullmatch(job) else "") for note, job in jobs]

    def put(self, events: Iterable[Event], settled: Iterable[Settled], notes: Sequence[str]) -> None:
        """Let these be sent to every address, and strike the notes up to the last: all or nothing."""
        now, ends = self._now(), list(settled)
        told = [*events, *(one.event() for one in ends)]
        full = [hook for hook in self._hooks if self.connection.zcard(keys.OUTBOX_DUE(hook)) >= MOST]
        with self.connection.pipeline() as pipe:
            for hook in self._hooks:
                bodies, due = keys.OUTBOX(hook), keys.OUTBOX_DUE(hook)
                if hook in full and told:
                    pipe.hincrbyfloat(keys.TELLING, f"{hook}:dropped", len(told))
                    continue
                for number, one in enumerate(told):
                    entry = json.dumps({"body": one.body, "since": now, "tries": 0})
                    pipe.hsetnx(bodies, one.id, entry)
                    pipe.zadd(due, {one.id: now + number / 1_000_000}, nx=True)  # in their order
                pipe.expire(bodies, KEPT)
                pipe.expire(due, KEPT)
            for end in ends:
                pipe.set(keys.TOLD(end.client, end.name), end.end, ex=KEPT_TOLD)
            if notes:  # one note, about nobody, stays in their place
                pipe.xadd(keys.ENDS, {"job": ""}, minid=_behind(notes[-1]), approximate=False)
            pipe.execute()

    def due(self, hook: str) -> Due | None:
        """The event that has been due longest to an address."""
        found: Any = self.connection.zrangebyscore(keys.OUTBOX_DUE(hook), "-inf", self._now(), 0, 1)
        if not found:
            return None
        event = found[0].decode()
        entry: Any = self.connection.hget(keys.OUTBOX(hook), event)
        try:
            told = json.loads(entry or b"")
            return Due(event, str(told["body"]), float(told["since"]), count(told["tries"]))
        except (ValueError, TypeError, KeyError):  # it would be in the way of all others
            self.connection.hdel(keys.OUTBOX(hook), event)
            self.connection.zrem(keys.OUTBOX_DUE(hook), event)
            return None

    def done(self, hook: str, one: Due, outcome: str) -> None:
        """It was told, or is told no more."""
        with self.connection.pipeline() as pipe:
            pipe.zrem(keys.OUTBOX_DUE(hook), one.event)
            pipe.hdel(keys.OUTBOX(hook), one.event)
            pipe.hincrbyfloat(keys.TELLING, f"{hook}:{outcome}", 1)
            pipe.execute()

    def failed(self, hook: str, one: Due) -> bool:
        """Try it again later; False where a day has passed, and it is told no more."""
        later = self._now() + one.pause
        if later - one.since > DAY:
            self.done(hook, one, "dropped")
            return False
        entry = json.dumps({"body": one.body, "since": one.since, "tries": one.tries + 1})
        with self.connection.pipeline() as pipe:
            pipe.hset(keys.OUTBOX(hook), one.event, entry)
            pipe.zadd(keys.OUTBOX_DUE(hook), {one.event: later}, xx=True)
            pipe.hincrbyfloat(keys.TELLING, f"{hook}:failed", 1)
            pipe.execute()
        return True


def _behind(note: str) -> str:
    """The least id that is greater than a note's."""
    moment, _, number = note.partition("-")
    return f"{moment}-{int(number) + 1}"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
