"""The faults, and the seeded plan of when each is thrown."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from pixelkiln.jobs.errors import NotReadyError
from tests.chaos.clocks import SteppedValkey, set_clock
from tests.chaos.crew import Worker
from tests.chaos.farm import Farm, crash, revive
from tests.chaos.http_relay import Fault as Spoiled
from tests.chaos.http_relay import Spoil

Note = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault: when (seconds from the start), what, to which slot, for how long, with what number."""

    at: float
    kind: str
    slot: int = 0
    seconds: float = 0.0
    value: float = 0.0
    word: str = ""


# kind, weight, shortest and longest seconds
_WORKERS = (
    ("kill", 5, 0.2, 3),  # seconds: until it is started again
    ("kill", 1, 18, 25),
    ("freeze", 2, 1, 5),
    ("freeze", 2, 16, 20),  # longer than a lease
    ("leave", 2, 0.2, 2),
    ("leave-now", 2, 0.2, 2),
)
_REDIS = (
    ("redis-cut", 3, 0, 0),
    ("redis-away", 2, 1, 12),
    ("redis-hole", 2, 1, 18),
    ("redis-slow", 2, 2, 5),
    ("redis-lose", 8, 0, 0),
    ("redis-crash", 3, 0.2, 6),
    ("redis-full", 1, 1, 4),
)
_S3 = (
    ("s3-spoil", 12, 0, 0),
    ("s3-away", 2, 1, 12),
    ("s3-hole", 1, 1, 15),
    ("s3-slow", 2, 2, 5),
    ("s3-crawl", 2, 4, 10),
    ("s3-crash", 1, 0.2, 4),
)
_ORDERS = (  # given as an admin gives them; a drain's workers are started again by the crew
    ("pause", 4, 0.5, 4),
    ("drain", 1, 0.5, 2),
    ("drain-now", 1, 0.5, 2),
)
_TARGETS = ("farm", "model:demo", "client:anna")
_SPOILS: tuple[tuple[Spoil, tuple[float, ...]], ...] = (
    ("answer", (500, 503, 412, 403)),
    ("reset", (0,)),
    ("lose", (0,)),
    ("late", (0.5, 3, 12)),
    ("corrupt-request", (0,)),
    ("corrupt-reply", (0,)),
    ("half-reply", (0,)),
    ("garbage", (0,)),
    ("slow", (2, 4)),
    ("no-etag", (0,)),
    ("no-length", (0,)),
    ("bad-date", (0,)),
    ("redirect", (0,)),
    ("odd-error", (0,)),
)
_METHODS: dict[Spoil, str] = {  # where it means something
    "reset": "PUT",
    "late": "PUT",
    "corrupt-request": "PUT",
    "corrupt-reply": "GET",
}
_TRACKS = (  # name, kinds, seconds between two blows
    ("workers", _WORKERS, 2.5),
    ("redis", _REDIS, 4.0),
    ("s3", _S3, 2.0),
    ("orders", _ORDERS, 5.0),
)
_COMMANDS = ("take", "renew", "EXEC", "release", "adopt", "kiln:own:", "BLPOP", "EVALSHA")


def plan(seed: int, seconds: float, workers: int) -> list[list[Blow]]:
    """One list of blows for each track; the tracks run beside each other."""
    tracks = []
    for name, kinds, gap in _TRACKS:
        dice = random.Random(f"{seed}:{name}")
        at, blows = dice.uniform(1, gap), []
        while at < seconds:
            kind, _, short, long = dice.choices(kinds, [weight for _, weight, _, _ in kinds])[0]
            lasts = min(dice.uniform(short, long), seconds / 2)
            spoil, values = dice.choice(_SPOILS)
            words = _TARGETS if name == "orders" else _COMMANDS
            word = spoil if kind == "s3-spoil" else dice.choice(words)
            blows.append(Blow(at, kind, dice.randrange(workers), lasts, dice.choice(values), word))
            at += lasts * (0.3 if name == "workers" else 1.0) + dice.uniform(0.3, 2 * gap)
        tracks.append(blows)
    return tracks


def extras(seed: int, seconds: float, disk: bool, clock: bool) -> list[list[Blow]]:
    """Tracks for what not every machine can do: a full spool (slot 0), clocks that jump (the last slot's,
    and Redis's)."""
    dice = random.Random(f"{seed}:extras")
    tracks = []
    if disk:
        tracks.append([Blow(dice.uniform(0.2, 0.6) * seconds, "disk-full", 0, min(8.0, seconds / 4))])
    if clock:
        jumps = [Blow(dice.uniform(0, seconds), "clock", -1, 0, dice.choice((-7200, -60, 60, 600, 7200)))]
        jumps.append(Blow(seconds, "clock", -1, 0, 0))
        tracks.append(jumps)
        steps, at = [], dice.uniform(2, 10)
        while at < seconds:
            steps.append(Blow(at, "redis-clock", value=dice.choice((-21600, -600, -40, 40, 600, 21600))))
            at += dice.uniform(5, 25)
        tracks.append([*steps, Blow(seconds, "redis-clock", value=0)])
    return tracks


class Hand:
    """Throws blows at a farm. `over` ends those that last."""

    def __init__(self, farm: Farm, workers: list[Worker], note: Note, over: threading.Event) -> None:
        self._farm = farm
        self._workers = workers
        self._note = note
        self._over = over
        self.held: set[str] = set()  # slots not to be started again yet
        self.strikes: dict[str, int] = {}  # job -> workers struck down or frozen while they had it

    def throw(self, blow: Blow) -> None:
        """Do it, and return when it has passed."""
        if blow.kind in {"kill", "freeze", "leave", "leave-now"}:
            self._strike(blow, self._workers[blow.slot])
        else:
            self._note(blow.kind, seconds=round(blow.seconds, 1), value=blow.value, word=blow.word)
            getattr(self, "_" + blow.kind.replace("-", "_"))(blow)

    def _wait(self, seconds: float) -> None:
        self._over.wait(seconds)

    def _strike(self, blow: Blow, worker: Worker) -> None:
        if not worker.alive():
            return
        self.held.add(worker.slot)
        try:
            worker.signal(signal.SIGSTOP if blow.kind in {"kill", "freeze"} else signal.SIGTERM)
            self._note(blow.kind, slot=worker.slot, seconds=round(blow.seconds, 1), had=worker.marks())
            if blow.kind in {"kill", "freeze"}:
                for job in worker.marks():
                    self.strikes[job] = self.strikes.get(job, 0) + 1
            if blow.kind == "kill":
                worker.signal(signal.SIGKILL)
            elif blow.kind == "leave-now":
                self._wait(0.3)
                worker.signal(signal.SIGTERM)
            self._wait(blow.seconds)
            if blow.kind == "freeze":
                worker.signal(signal.SIGCONT)
        finally:
            self.held.discard(worker.slot)

    def _pause(self, blow: Blow) -> None:
        kiln = self._farm.kiln()
        _until_given(lambda: kiln.pause(blow.word))
        self._wait(blow.seconds)
        _until_given(lambda: kiln.resume(blow.word))

    def _drain(self, blow: Blow) -> None:
        with suppress(NotReadyError):
            self._farm.kiln().drain("farm", now=blow.kind == "drain-now")

    _drain_now = _drain

    def _redis_cut(self, blow: Blow) -> None:
        self._farm.to_redis.cut()

    def _redis_away(self, blow: Blow) -> None:
        self._farm.to_redis.refuse()
        self._wait(blow.seconds)
        self._farm.to_redis.restore()

    def _redis_hole(self, blow: Blow) -> None:
        self._farm.to_redis.hold()
        self._wait(blow.seconds)
        self._farm.to_redis.restore()

    def _redis_slow(self, blow: Blow) -> None:
        self._farm.to_redis.delay = 0.3
        self._wait(blow.seconds)
        self._farm.to_redis.restore()

    def _redis_lose(self, blow: Blow) -> None:
        self._farm.to_redis.lose("half" if blow.value else "reply", blow.word.encode())

    def _redis_crash(self, blow: Blow) -> None:
        crash(self._farm.valkey)
        self._wait(blow.seconds)
        revive(self._farm.valkey)

    def _redis_full(self, blow: Blow) -> None:
        """Every write is refused for want of memory."""
        with suppress(redis.RedisError), redis.Redis.from_url(self._farm.valkey.url) as direct:
            direct.config_set("maxmemory", 1)
            self._wait(blow.seconds)
            direct.config_set("maxmemory", 0)

    def _s3_spoil(self, blow: Blow) -> None:
        spoil: Any = blow.word
        method = _METHODS.get(spoil, "")
        key = ("", "image.png", "sidecar.json")[int(blow.at * 10) % 3]
        times = 8 if spoil == "redirect" else 1  # botocore follows some
        self._farm.to_s3.spoil(Spoiled(spoil, blow.value, method, key, times))

    def _s3_away(self, blow: Blow) -> None:
        self._farm.to_s3.refuse()
        self._wait(blow.seconds)
        self._farm.to_s3.restore()

    def _s3_hole(self, blow: Blow) -> None:
        self._farm.to_s3.hold()
        self._wait(blow.seconds)
        self._farm.to_s3.restore()

    def _s3_slow(self, blow: Blow) -> None:
        self._farm.to_s3.delay = 0.3
        self._wait(blow.seconds)
        self._farm.to_s3.restore()

    def _s3_crawl(self, blow: Blow) -> None:
        """Every picture takes seconds to store, and nothing is wrong with it."""
        self._farm.to_s3.crawl = 4.0
        self._wait(blow.seconds)
        self._farm.to_s3.restore()

    def _s3_crash(self, blow: Blow) -> None:
        crash(self._farm.store)
        self._wait(blow.seconds)
        revive(self._farm.store)

    def _disk_full(self, blow: Blow) -> None:
        """Fill the spool's own small disk to the last byte."""
        ballast = self._workers[blow.slot].spool.parent / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as out:
            while True:
                out.write(bytes(4096))
        self._wait(blow.seconds)
        ballast.unlink(missing_ok=True)

    def _clock(self, blow: Blow) -> None:
        clock = self._workers[blow.slot].clock
        assert clock is not None
        set_clock(clock, blow.value)

    def _redis_clock(self, blow: Blow) -> None:
        assert isinstance(self._farm.valkey, SteppedValkey)
        set_clock(self._farm.valkey.clock, blow.value)


def _until_given(order: Callable[[], object], seconds: float = 60.0) -> None:
    """Give an order until Redis has it: what was paused must not stay so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(NotReadyError):
            order()
            return
        time.sleep(0.2)
    raise TimeoutError("an order could not be given")
