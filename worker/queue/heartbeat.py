"""The worker's heartbeat: renews leases, publishes progress and gives back what dead workers held.

It runs on a thread and a connection of its own, so that neither a long step nor a slow upload delays it.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.worker.host.standstill import Standstill
from pixelkiln.worker.host.watchdog import Watchdog, exit_if
from pixelkiln.worker.queue.claim import Claim, Progress, stamp
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.deadlines import Deadlines
from pixelkiln.worker.queue.server_clock import ServerClock

log = logging.getLogger("kiln.heartbeat")

BEAT = 3.0  # seconds between renewals
PUBLISH = 0.4  # seconds between looks at what is new
SOON = 0.02  # seconds from one beat to the next at least, whoever calls
GRACE = (
    10.0  # seconds without reaping after a start, a reconnect or a step of Redis's clock: others renew first
)
REGISTRATION = 60  # seconds until RQ's tools stop listing a worker that is gone


class Heartbeat(threading.Thread):
    """Keeps a worker's claims alive until stopped."""

    def __init__(
        self,
        claims: Claims,
        about: dict[str, str],
        watchdog: Watchdog,
        standstill: Standstill | None = None,
        explain: Callable[[redis.RedisError], str] = str,
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._claims = claims
        self._about = about
        self._explain = explain  # why Redis does not answer, and what to do
        self._watchdog = watchdog
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Claim, Progress | None]] = {}
        self._news: set[str] = set()
        self._lost: set[str] = set()
        self._state = "starting"
        self._trouble: Callable[[], str | None] = lambda: None
        self._stop_asked = threading.Event()
        self._woken = threading.Event()
        self._reap_from = time.monotonic() + GRACE
        self._beats = 0
        self._clock = ServerClock(claims.connection)
        self._deadlines = Deadlines(claims.connection)
        self._standstill = standstill or Standstill()  # since the last whole beat that Redis answered
        self.away_since: float | None = None  # monotonic; None while Redis answers
        self.broken: BaseException | None = None  # the thread died of this: nothing is kept alive any more

    def hold(self, claim: Claim, progress: Progress | None = None) -> None:
        """Keep `claim` alive from now on."""
        with self._lock:
            self._held[claim.execution] = claim, progress
            self._news.add(claim.execution)
            self._lost.discard(claim.execution)

    def report(self, claim: Claim, progress: Progress) -> None:
        """Note how far a held claim is; published within PUBLISH seconds."""
        with self._lock:
            if claim.execution in self._held:
                self._held[claim.execution] = claim, progress
                self._news.add(claim.execution)

    def drop(self, claim: Claim) -> None:
        """Stop keeping `claim`: it was settled or given back."""
        with self._lock:
            self._held.pop(claim.execution, None)
            self._news.discard(claim.execution)
            self._lost.discard(claim.execution)

    def lost(self, claim: Claim) -> bool:
        """Whether the server has said that this claim is ours no more."""
        with self._lock:
            return claim.execution in self._lost

    def held(self) -> list[Claim]:
        """The claims that are kept alive."""
        with self._lock:
            return [claim for claim, _ in self._held.values()]

    def handed(self) -> list[tuple[Claim, Progress]]:
        """The claims whose pictures are rendered, and what they cost."""
        with self._lock:
            held = list(self._held.values())
        return [(claim, told) for claim, told in held if told is not None and told.phase == "delivering"]

    @property
    def state(self) -> str:
        """What this worker said last that it is doing."""
        return self._state

    def say(self, state: str) -> None:
        """What this worker is doing, for those who ask."""
        self._state = state

    def heed(self, trouble: Callable[[], str | None]) -> None:
        """Show what `trouble` answers, whenever it does, beside what this worker is doing."""
        self._trouble = trouble

    def tell(self, **facts: str) -> None:
        """Show these in RQ's record of this worker from the next whole beat on."""
        with self._lock:
            self._about = {**self._about, **facts}

    def look(self, job_id: str | None = None) -> None:
        """Beat now: about every claim, or if this job is held. Someone says that something has changed."""
        if job_id is None or any(claim.job_id == job_id for claim in self.held()):
            self._woken.set()

    def stop(self) -> None:
        """End the thread and strike the worker off RQ's list."""
        self._stop_asked.set()
        self._woken.set()
        if self.is_alive():
            self.join(timeout=10)

    def run(self) -> None:
        """Beat until stopped."""
        try:
            self._run()
        except BaseException as error:
            self.broken = error
            log.exception("the heartbeat died")

    def _run(self) -> None:
        next_beat = 0.0
        while not self._stop_asked.is_set():
            exit_if(self._watchdog)
            woken = self._woken.is_set()
            self._woken.clear()
            full = woken or time.monotonic() >= next_beat
            if full:
                next_beat = time.monotonic() + BEAT
            if full or self._news:
                self._guarded(lambda: self._beat(full))  # noqa: B023 - called at once
            self._stop_asked.wait(SOON)
            self._woken.wait(PUBLISH)
        self._guarded(self._strike_off)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except redis.RedisError as error:
            self._claims.tally.add("kiln_redis_errors_total")
            if self.away_since is None:
                self.away_since = time.monotonic()
                log.warning("Redis is away (%s); what is rendered stays spooled", self._explain(error))
        else:
            if self.away_since is not None:
                log.info("Redis is back after %.0f s", time.monotonic() - self.away_since)
                self.away_since = None
                self._reap_from = time.monotonic() + GRACE

    def _beat(self, full: bool) -> None:
        with self._lock:
            chosen = [
                (claim, progress if execution in self._news else None)
                for execution, (claim, progress) in self._held.items()
                if full or execution in self._news
            ]
            self._news.clear()
        try:
            lost = self._claims.renew(chosen)
        except redis.RedisError:
            with self._lock:
                self._news.update(claim.execution for claim, progress in chosen if progress)
            raise
        if lost:
            with self._lock:
                found = (lost & self._held.keys()) - self._lost
                self._lost |= found
                lanes = [self._held[one][0].lane for one in found]
            for lane in lanes:
                self._claims.tally.ended("lost", *lane.counted_as)
        if full:
            slept = self._standstill.seconds() > GRACE  # or was frozen, and so may the others have been
            if self._clock.step() or slept:
                self._reap_from = time.monotonic() + GRACE
            self._beats += 1
            self._register()
            if self.away_since is None and time.monotonic() >= self._reap_from:
                self._reap()

    def _reap(self) -> None:
        for job_id in self._claims.reap(self._clock):
            self._claims.tally.add("kiln_jobs_recovered_total")
            log.warning("job %s: its worker is gone; it is queued again", job_id)
        if self._beats % 20 == 0 and self._claims.recover(due=False):
            self._deadlines.look(self._clock.now())

    def _register(self) -> None:
        """RQ's own record of a worker, so that its tools list this one."""
        key = keys.WORKER(self._claims.worker)
        with self._claims.connection.pipeline(transaction=False) as pipe:
            now = stamp()
            record: dict[Any, Any] = {
                "last_heartbeat": now,
                "state": "busy" if self.held() else "idle",
                "kiln_state": self._told(),
                "kiln_beat": f"{self._clock.now():.3f}",  # by Redis's clock: machines' own differ
                "pid": str(os.getpid()),
                "hostname": platform.node(),
                "python_version": platform.python_version(),
                **self._about,
            }
            pipe.hsetnx(key, "birth", now)
            pipe.hset(key, mapping=record)
            pipe.expire(key, REGISTRATION)
            pipe.sadd(keys.WORKERS, key)
            answers = pipe.execute(raise_on_error=False)
        refused = [one for one in answers if isinstance(one, redis.ResponseError)]
        if refused and not self._cleared({key: b"hash", keys.WORKERS: b"set"}):
            raise refused[0]

    def _told(self) -> str:
        state, trouble = self._state, self._trouble()
        return state if trouble is None or trouble in state else f"{state}; cannot deliver: {trouble}"

    def _cleared(self, kinds: dict[str, bytes]) -> bool:
        """Whether a key had become another type, and was deleted: the next beat writes it anew."""
        there: dict[str, Any] = {key: self._claims.connection.type(key) for key in kinds}
        wrong = [key for key, kind in kinds.items() if there[key] not in (kind, b"none")]
        return bool(wrong and self._claims.connection.unlink(*wrong))

    def _strike_off(self) -> None:
        key = keys.WORKER(self._claims.worker)
        self._claims.connection.unlink(key, keys.WORKER_EXECUTIONS(self._claims.worker))
        self._claims.connection.srem(keys.WORKERS, key)
