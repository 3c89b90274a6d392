"""Simulated workers: the queue's real code and a render that is only time that passes. Many share a process.

A worker beats every 3 s, tells each step and shows a preview of it, reads the orders every 3 s, listens for
calls, settles a picture a second after the next was begun, as worker/service.py and worker/deliver do.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import redis

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.jobs.control.orders import admin_key
from pixelkiln.jobs.queue import scripts
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue import claims as claims_module
from pixelkiln.worker.queue.claim import Claim, Progress, new_execution
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.control import READ, Control
from pixelkiln.worker.queue.heartbeat import BEAT, Heartbeat

KIND = "demo:bf16"
RESULT = {"png": "p", "sidecar": "s", "sha256": "0" * 64}
PREVIEW = random.Random(0).randbytes(6000)  # as large as a WebP of 256 pixels is
THREADS = 16
PRIORITIES = ("high", "normal", "normal", "low")


@dataclass(frozen=True)
class Plan:
    """What is simulated."""

    workers: int
    clients: int
    seconds: float  # of a picture
    steps: int = 28
    previews: bool = True
    watchers: int = 0  # that wait for 20 jobs each


class Timetable:
    """Does what is due, on a few threads; keeps how long each took and how late it began."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, str, Callable[[], None]]] = []
        self._number = itertools.count()
        self._ready = threading.Condition()
        self._end = False
        self.took: dict[str, list[float]] = defaultdict(list)
        self.late: list[float] = []
        self.failed: list[str] = []

    def at(self, moment: float, what: str, act: Callable[[], None]) -> None:
        """Do it then (monotonic)."""
        with self._ready:
            heapq.heappush(self._due, (moment, next(self._number), what, act))
            self._ready.notify()

    def run(self) -> list[threading.Thread]:
        """Begin."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        return threads

    def stop(self) -> None:
        """End, whatever is due."""
        with self._ready:
            self._end = True
            self._ready.notify_all()

    def clear(self) -> None:
        """Forget what was kept."""
        self.took, self.late = defaultdict(list), []

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._end and (not self._due or self._due[0][0] > time.monotonic()):
                    self._ready.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._end:
                    return
                moment, _, what, act = heapq.heappop(self._due)
                self._ready.notify()
            began = time.monotonic()
            try:
                act()
            except redis.RedisError as error:
                self.failed.append(f"{what}: {error}")
            self.took[what].append((time.monotonic() - began) * 1000)
            self.late.append((began - moment) * 1000)


class Mac:
    """One worker."""

    def __init__(
        self, settings: Settings, name: str, plan: Plan, timetable: Timetable, taken: Callable[[], None]
    ):
        self._plan, self._timetable, self._taken = plan, timetable, taken
        self._claims = Claims(connect(settings), name)
        about = {"queues": KIND, "version": "simulated", "kiln_memory": str(2**35)}
        self._heartbeat = Heartbeat(Claims(connect(settings), name), about, Watchdog(600))
        self._control = Control(Claims(connect(settings), name), name, admin_key(settings), self._heartbeat)
        self._previews = connect(settings)
        self._calls = connect(settings).pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._calls.subscribe(keys.CALLS)

    def start(self, moment: float) -> None:
        """Begin then."""
        self._timetable.at(moment, "beat", lambda: self._beat(moment))
        self._timetable.at(moment + 1, "orders", lambda: self._orders(moment + 1))
        self._timetable.at(moment, "take", self._take)

    def _beat(self, due: float) -> None:
        self._heartbeat._beat(True)
        self._timetable.at(due + BEAT, "beat", lambda: self._beat(due + BEAT))

    def _orders(self, due: float) -> None:
        self._control.read()
        while self._calls.get_message(timeout=0):
            pass
        self._timetable.at(due + READ, "orders", lambda: self._orders(due + READ))

    def _take(self) -> None:
        serial = self._control.standing.serial
        claim = self._claims.take([KIND], KIND, execution=new_execution(), memory=2**35, serial=serial)
        if claim is None:
            self._timetable.at(time.monotonic() + 1, "take in vain", self._take)
            return
        self._heartbeat.hold(claim, Progress("loading"))
        self._heartbeat.say(f"rendering {claim.job_id}")
        self._next(claim, 1, time.monotonic() + self._plan.seconds / self._plan.steps)
        self._taken()

    def _next(self, claim: Claim, step: int, due: float) -> None:
        self._timetable.at(due, "step", lambda: self._step(claim, step, due))

    def _step(self, claim: Claim, step: int, due: float) -> None:
        last = step == self._plan.steps
        self._heartbeat.report(claim, Progress("delivering" if last else "rendering", step, self._plan.steps))
        self._heartbeat._beat(False)
        if last:
            self._timetable.at(due + 1, "settle", lambda: self._settle(claim))
            self._timetable.at(due, "take", self._take)
            return
        if self._plan.previews:
            with self._previews.pipeline(transaction=False) as pipe:
                pipe.set(keys.PREVIEW(claim.lane.client, claim.job_id), PREVIEW, ex=300)
                pipe.publish(keys.EVENTS, "x" * 100)
                pipe.execute()
        self._next(claim, step + 1, due + self._plan.seconds / self._plan.steps)

    def _settle(self, claim: Claim) -> None:
        if self._claims.holds(claim) and self._claims.holds(claim):  # before the picture, before the sidecar
            self._claims.finish(claim, RESULT, self._plan.seconds)
        self._heartbeat.drop(claim)


def simulate(settings: Settings, plan: Plan, part: int, parts: int, orders: object, answers: object) -> None:
    """The workers of one process: told 'clear' and 'stop' over `orders`, they answer what calls took."""
    once: dict[object, str] = {}
    whole = scripts.assembled
    scripts.assembled = lambda *sources: once.setdefault(sources, whole(*sources))  # type: ignore[assignment]
    assert claims_module.Script is scripts.Script
    timetable, draw = Timetable(), random.Random(part)
    kilns = [Kiln(settings) for _ in range(THREADS)]

    def submit() -> None:
        client = f"c{draw.randrange(plan.clients)}"
        spec = {"prompt": "a fox in the rain", "model": "demo", "client": client}
        draw.choice(kilns).submit({**spec, "priority": draw.choice(PRIORITIES)}, id=str(uuid.uuid4()))  # type: ignore[typeddict-item]

    def taken() -> None:
        timetable.at(time.monotonic() + draw.random() * plan.seconds, "submit", submit)

    workers = range(part, plan.workers, parts)
    macs = [Mac(settings, f"mac-{n}-{uuid.uuid4().hex[:6]}", plan, timetable, taken) for n in workers]
    begin = time.monotonic()
    for mac in macs:
        mac.start(begin + draw.random() * plan.seconds)
    for number in range(part, plan.watchers, parts):
        watch(kilns[number % THREADS], timetable, begin)
    timetable.run()
    while orders.get() != "stop":  # type: ignore[attr-defined]
        timetable.clear()
    timetable.stop()
    answers.put((dict(timetable.took), timetable.late, timetable.failed[:5]))  # type: ignore[attr-defined]


def watch(kiln: Kiln, timetable: Timetable, due: float) -> None:
    """Ask for 20 jobs five times a second, as `kiln watch` does."""
    job = {"prompt": "x", "model": "demo", "quantization": "8bit"}  # which no worker here serves
    ids = [one.id for one in kiln.submit_many([job] * 20)]  # type: ignore[list-item]

    def look(due: float) -> None:
        kiln.statuses(ids)
        timetable.at(due + 0.2, "watch", lambda: look(due + 0.2))

    timetable.at(due, "watch", lambda: look(due))
