"""How orders reach a worker: it reads those that admins signed, and listens for when to look again.

What comes over the channel is a hint, from whoever may publish; it makes the worker look at what it trusts.
Orders are read again every few seconds besides, so a lost hint costs no more than that.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass, replace

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.control.orders import (
    MAX_ORDER,
    MOST_ORDERS,
    Order,
    Target,
    check_seal,
    fingerprint,
    identity,
)
from pixelkiln.jobs.errors import OrderError
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.worker.queue.claims import Claims, NewOrdersError
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.queue.server_clock import ServerClock

log = logging.getLogger("kiln.control")

READ = 3.0  # seconds between readings of the orders that nobody called for
SOON = 0.02  # seconds from a call to the reading, which is for all the calls of that time
WAIT = 0.2  # seconds the thread listens at a time
SHOWN = 50  # paused ones that a worker shows
TOLD = 20  # malformed messages that are logged, one line each

_WORKER_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Standing:
    """What the orders in force mean for one worker."""

    serial: str | None = None  # of these orders; None for a worker that obeys none, or cannot know
    paused: frozenset[Target] = frozenset()  # of workers, only this one
    leave: int = 0  # 1: once the running job is delivered; 2: now, giving it back

    @property
    def here(self) -> str:
        """Why it takes no jobs at all, if so."""
        kinds = sorted(target.kind for target in self.paused if target.kind in ("farm", "worker"))
        return f"the {kinds[0]} is paused" if kinds else ""

    def names(self, kind: str) -> list[str]:
        """The clients or models that are paused."""
        return [target.name for target in self.paused if target.kind == kind]

    def __str__(self) -> str:
        return ",".join(sorted(map(str, self.paused))[:SHOWN])


class Control(threading.Thread):
    """Keeps `standing` up to date until stopped.

    Without a key it obeys no orders, but hears which jobs were cancelled all the same.
    """

    def __init__(self, claims: Claims, worker: str, key: bytes | None, heartbeat: Heartbeat) -> None:
        super().__init__(name="control", daemon=True)
        self._claims = claims
        self._worker = worker
        self._key = key
        self._heartbeat = heartbeat
        self._clock = ServerClock(claims.connection)
        self._since = self._clock.now()  # a drain before it was meant for another
        self._newest: dict[str, Order] = {}
        self._found: dict[str, Order] | None = (
            None  # as it started: so were these, whatever the clock said then
        )
        self._dropped: set[bytes] = set()
        self._reading = threading.Lock()
        self._due = 0.0  # monotonic, of the next reading
        self._stop_asked = threading.Event()
        self.standing = Standing()
        heartbeat.tell(kiln_orders=fingerprint(key))
        self.read()

    def read(self) -> None:
        """Bring `standing` up to date. Raises redis.RedisError; what was known then stands."""
        if self._key is None:
            return
        with self._reading:
            try:
                serial, farm, found = self._claims.orders()
                if not farm:
                    identity(self._claims.connection, self._key)
                    serial, farm, found = self._claims.orders()
            except NewOrdersError:
                self._drop(b"", f"orders are not read: there are more than {MOST_ORDERS}")
                self.standing = replace(self.standing, serial=None)
                return
            for field, (text, sealed) in found.items():
                try:
                    order = Order.opened(field, text, self._key)
                    check_seal(sealed, farm, text, self._key)
                except OrderError as error:
                    self._drop(text, f"order {field[:80]!r} is dropped: {error}")
                    continue
                newest = self._newest.get(field)
                if newest is None or order.at > newest.at:  # an older one was put back by someone
                    self._newest[field] = order
            self._since += min(0.0, self._clock.step())
            if self._found is None:
                self._found = dict(self._newest)
            before, self.standing = self.standing, self._meaning(serial)
        if self.standing != before:
            self._heartbeat.tell(kiln_paused=str(self.standing))
            self._heartbeat.look()
            self._log(before, self.standing)

    def run(self) -> None:
        """Listen until stopped; nothing that is heard ends it."""
        while not self._stop_asked.is_set():
            try:
                self._listen()
            except redis.RedisError as error:
                log.debug("not listening: %s", error)
                self._stop_asked.wait(1.0)
            except Exception:
                log.exception("listening starts anew")
                self._stop_asked.wait(1.0)

    def stop(self) -> None:
        """End the thread; does not wait for it."""
        self._stop_asked.set()

    def _listen(self) -> None:
        with self._claims.connection.pubsub(ignore_subscribe_messages=True) as calls:  # type: ignore[no-untyped-call]
            calls.subscribe(keys.CALLS)
            self._due = 0.0
            while not self._stop_asked.is_set():
                if time.monotonic() >= self._due:
                    self.read()
                    self._due = time.monotonic() + READ
                left = self._due - time.monotonic()
                message = calls.get_message(timeout=max(0.0, min(WAIT, left)))
                if message is not None:
                    self._hear(message["data"])

    def _hear(self, data: bytes) -> None:
        kind, _, job_id = data[:80].partition(b":")
        if data == b"orders":
            self._due = min(self._due, time.monotonic() + SOON)
        elif kind == b"job" and JOB_ID.fullmatch(job_id.decode("utf-8", "replace")):
            self._heartbeat.look(job_id.decode())
        else:
            self._drop(data, f"a call that is none is dropped: {data[:60]!r}")

    def _meaning(self, serial: str) -> Standing:
        paused, leave = set(), 0
        found = self._found or {}
        for field, order in self._newest.items():
            target = Target.parse(order.target)
            if target.kind == "worker" and not target.covers(self._worker):
                continue
            if order.verb == "pause":
                paused.add(target)
            elif order.verb == "drain" and order.at >= self._since and found.get(field) != order:
                leave = max(leave, 2 if order.now else 1)
        return Standing(serial, frozenset(paused), leave)

    def _log(self, before: Standing, after: Standing) -> None:
        if after.leave > before.leave:
            log.info("drained: leaves %s", "now" if after.leave > 1 else "when its job is done")
        if after.paused != before.paused:
            log.info("paused by order: %s", str(after) or "nothing any more")

    def _drop(self, text: bytes, line: str) -> None:
        """Tell once of what is malformed, and of no more than TOLD of it."""
        text = text[:MAX_ORDER]
        if text not in self._dropped and len(self._dropped) < TOLD:
            self._dropped.add(text)
            more = "" if len(self._dropped) < TOLD else " (more of them are dropped without a word)"
            log.warning("%s%s", line, more)


def worker_name(machine: str, ending: str) -> str:
    """A name that orders can give: the machine's without its domain, and something that makes it unique."""
    host = _WORKER_NAME.sub("-", machine.split(".")[0])[:48].strip("-._")
    return f"{host or 'worker'}-{ending}"
