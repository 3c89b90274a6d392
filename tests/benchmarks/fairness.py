"""How GPU time is shared between clients whose jobs always wait: claims on a Valkey, rendering simulated.

python -m tests.benchmarks.fairness [--hours H] [--seeds N] [--only WORD]

Takes, heartbeats, settlements, adoptions and give-backs are the product's own, called in the order of a
simulated time; so is the meter that foresees what a job costs. What a step takes is drawn. Models are loaded
when a worker changes from one to the other, which nobody is charged for. What was rendered when a worker was
killed is not charged, and does not count as given; how the shares were with it is told, too.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import platform
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.scripts import HERE, Script
from pixelkiln.worker.engines.engine import Step
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.intake import UNKNOWN
from pixelkiln.worker.local.valkey import Valkey
from pixelkiln.worker.queue.claim import Claim, Progress, stamp
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.heartbeat import BEAT, Heartbeat
from pixelkiln.worker.render.meter import Meter

WAITING = 12  # jobs of each client
LOADING = 25.0  # seconds
UPLOADING = (0.5, 4.0)
RESTARTING = 6.0
RESULT = {"png": "p", "sidecar": "s", "sha256": "0"}


@dataclass(frozen=True)
class Job:
    """What a client asks for again and again: seconds of the prompt and of each step, by steps."""

    kind: str
    step: float
    steps: int = 28
    before: float = 0.4  # references, prompt

    @property
    def seconds(self) -> float:
        """What it takes without chance."""
        return self.before + self.step * self.steps


SMALL, LARGE, EDIT = Job("demo:bf16", 0.09), Job("demo:bf16", 1.1), Job("demo:bf16", 0.5, before=6.0)
OTHER_SMALL, OTHER_LARGE = Job("big:q6", 0.2, 50), Job("big:q6", 2.4, 50)
MIXED = (SMALL, LARGE, EDIT, OTHER_SMALL, OTHER_LARGE)


@dataclass
class Case:
    """Clients and what they ask for, workers, and what disturbs them."""

    clients: dict[str, tuple[Job, ...]]
    workers: int = 1
    lives: float = 0.0  # mean seconds from a worker's start to its kill, in the middle of whatever it does
    forger: str = ""  # this client forges all it can write


CASES = {
    "small, large": Case({"small": (SMALL,), "large": (LARGE,)}),
    "small, large; 3 workers": Case({"small": (SMALL,), "large": (LARGE,)}, 3),
    "two models; 3 workers": Case({"small": (SMALL, OTHER_SMALL), "large": (LARGE, OTHER_LARGE)}, 3),
    "small, mixed; 3 workers": Case({"small": (SMALL,), "mixed": MIXED}, 3),
    "small, mixed, killed; 3 workers": Case({"small": (SMALL,), "mixed": MIXED}, 3, 900.0),
    "small, mixed, killed; 12 workers": Case({"small": (SMALL,), "mixed": MIXED}, 12, 900.0),
    "honest, forger; 3 workers": Case({"honest": MIXED, "forger": MIXED}, 3, forger="forger"),
    "honest, forger, killed; 3 workers": Case({"honest": MIXED, "forger": MIXED}, 3, 900.0, "forger"),
}


@dataclass
class Farm:
    """A case under way."""

    redis: redis.Redis
    case: Case
    seed: int
    now: float = 0.0
    given: Counter[str] = field(default_factory=Counter)  # GPU seconds by client
    lost: Counter[str] = field(default_factory=Counter)  # those of renders that a kill ended
    done: Counter[str] = field(default_factory=Counter)  # jobs

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._submit = Script(self.redis, "submit", HERE / "submit.lua")
        self._ids, self._order = itertools.count(), itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.jobs: dict[str, Job] = {}
        for client in self.case.clients:
            for _ in range(WAITING):
                self.submit(client)
        self.workers = [Worker(self, f"w{n}") for n in range(self.case.workers)]

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Let something happen."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), act))

    def run(self, seconds: float) -> None:
        """Until so much time has passed."""
        while self._events[0][0] <= seconds:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = seconds
        for worker in self.workers:
            worker.count()

    def submit(self, client: str) -> None:
        """One more job of a client."""
        name, job = f"j{next(self._ids)}", self.rng.choice(self.case.clients[client])
        self.jobs[name] = job
        lane = Lane(*job.kind.split(":"), "normal", client)
        fields = {"status": "queued", "origin": lane.name, "enqueued_at": stamp(), "data": "x", "id": name}
        values = [part for item in fields.items() for part in item]
        self._submit(*values, jobs=[{"id": name, "lane": lane.name, "values": len(values)}])

    def forge(self, claim: Claim) -> None:
        """What one who may write RQ's keys would have the reaper refund; then it makes off with the job."""
        record = keys.EXECUTION(claim.job_id, claim.execution)
        self.redis.hset(record, mapping={"estimate": 1e6, "created_at": 1e12})
        if self.rng.random() < 0.3:
            fake = keys.EXECUTION(claim.job_id, "fake")
            self.redis.hset(fake, mapping={"estimate": 1e6, "created_at": 1e12, "lane": claim.lane.name})
            self.redis.set(keys.OWNER(claim.job_id), "fake")
            self.redis.hset(keys.JOB(claim.job_id), mapping={"status": "queued"})
            self.redis.rpush(keys.QUEUE(claim.lane), claim.job_id)


class Worker:
    """One worker, life after life."""

    def __init__(self, farm: Farm, name: str) -> None:
        self.farm = farm
        self.claims = Claims(farm.redis, name)
        self._spooled: list[tuple[Claim, float]] = []
        self._claim: Claim | None = None
        self._life = 0
        self._begin()

    def count(self) -> None:
        """What the running job was given up to now."""
        if self._claim is not None and self._job:
            self.farm.given[self._claim.lane.client] += self.meter.seconds

    def _begin(self) -> None:
        """As a worker starts: what lies spooled is adopted, what was rendering goes back."""
        self.heartbeat = Heartbeat(self.claims, {}, Watchdog(900.0))
        self.meter = Meter(lambda: self.farm.now)
        self._resident, self._life = "", self._life + 1
        for claim, cost in self._spooled:
            if self.claims.adopt(claim, cost) == "owned":
                self.heartbeat.hold(claim, Progress("delivering", cost=cost))
                self._later(self.farm.rng.uniform(*UPLOADING), lambda c=claim, s=cost: self._stored(c, s))
        if self._claim is not None:
            self.claims.release(self._claim, crashed=True)
        self._claim = None
        if self.farm.case.lives:
            self._later(self.farm.rng.expovariate(1 / self.farm.case.lives), self._die)
        self._take()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        """Unless it is dead by then."""
        life = self._life
        self.farm.after(seconds, lambda: act() if self._life == life else None)

    def _die(self) -> None:
        if self._claim is not None and self._job:
            self.farm.lost[self._claim.lane.client] += self.meter.seconds
        self._life += 1
        self.farm.after(RESTARTING, self._begin)

    def _take(self) -> None:
        claim = self.claims.take(
            ["demo:bf16", "big:q6"], [self._resident], estimate=UNKNOWN, handed=self.heartbeat.handed()
        )
        if claim is None:
            self._later(1.0, self._take)
            return
        self.farm.submit(claim.lane.client)
        self._claim, self._job = claim, None
        self.heartbeat.hold(claim, Progress("loading"))
        self.heartbeat._beat(full=False)
        if claim.lane.client == self.farm.case.forger:
            self.farm.forge(claim)
        loading = LOADING if claim.lane.kind != self._resident else 0.0
        self._resident = claim.lane.kind
        self._later(loading, self._loaded)

    def _loaded(self) -> None:
        assert self._claim is not None
        self.meter.start()
        self._job, self._beat = self.farm.jobs[self._claim.job_id], self.farm.now
        self._speed = self.farm.rng.lognormvariate(0, 0.15)
        self._later(self._job.before * self._speed, lambda: self._stepped(0, 0.0))

    def _stepped(self, index: int, seconds: float) -> None:
        """One step is done; that is told when the heartbeat next looks."""
        assert self._claim is not None
        assert self._job is not None
        cost = self.meter.cost(Step(index, self._job.steps, seconds))
        self.heartbeat.report(self._claim, Progress("rendering", index, self._job.steps, cost))
        if index <= 2 or self.farm.now - self._beat >= BEAT:
            self._beat = self.farm.now
            self._pass_time(self._claim)
            self.heartbeat._beat(full=True)
        if self.heartbeat.lost(self._claim):
            self.count()
            self.heartbeat.drop(self._claim)
            self._claim = None
            self._take()
        elif index < self._job.steps:
            slow = 2.0 if index == 0 else 1.0  # it is compiled
            seconds = self._job.step * self._speed * slow * self.farm.rng.uniform(0.95, 1.05)
            self._later(seconds, lambda: self._stepped(index + 1, seconds))
        else:
            self._rendered(self._claim)

    def _pass_time(self, claim: Claim) -> None:
        """The server's clock, by which a job is paid that was taken away, stands still in simulated time."""
        account = keys.ACCOUNT(claim.job_id, claim.execution)
        if claim.lane.client == self.farm.case.forger and self.farm.redis.exists(account):
            self.farm.redis.hset(account, "taken", str(time.time() - self.meter.seconds))

    def _rendered(self, claim: Claim) -> None:
        self.count()
        self.farm.done[claim.lane.client] += 1
        cost, self._claim = self.meter.seconds, None
        self._spooled.append((claim, cost))
        self.heartbeat.report(claim, Progress("delivering", cost=cost))
        self._later(self.farm.rng.uniform(*UPLOADING), lambda: self._stored(claim, cost))
        self._take()

    def _stored(self, claim: Claim, cost: float) -> None:
        self.claims.finish(claim, RESULT, cost)
        self.heartbeat.drop(claim)
        self._spooled.remove((claim, cost))


def shared(connection: redis.Redis, case: Case, seed: int, seconds: float) -> tuple[float, Farm]:
    """The first client's part of the GPU time that was given."""
    connection.flushdb()
    farm = Farm(connection, case, seed)
    farm.run(seconds)
    return farm.given[next(iter(case.clients))] / sum(farm.given.values()), farm


def main() -> None:
    """Print the table."""
    parse = argparse.ArgumentParser(prog="fairness", description=__doc__)
    parse.add_argument("--hours", type=float, default=2.0, help="of simulated time")
    parse.add_argument("--seeds", type=int, default=5)
    parse.add_argument("--only", default="", help="cases whose name has this in it")
    asked = parse.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| clients; workers | GPU time (seeds) | with renders that were killed | jobs |")
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        for title, case in CASES.items():
            if asked.only not in title:
                continue
            with redis.Redis.from_url(valkey.url, protocol=2) as connection:
                connection.config_set("appendfsync", "no")
                runs = [shared(connection, case, seed, asked.hours * 3600) for seed in range(asked.seeds)]
            first, second = case.clients
            parts = sorted(100 * part for part, _ in runs)
            mean = sum(parts) / len(parts)
            jobs = " : ".join(str(sum(f.done[c] for _, f in runs) // len(runs)) for c in (first, second))
            ended = [[f.given[c] + f.lost[c] for c in (first, second)] for _, f in runs]
            whole = sum(100 * one / (one + other) for one, other in ended) / len(runs)
            share = f"{mean:.1f} : {100 - mean:.1f} ({parts[0]:.1f}–{parts[-1]:.1f})"
            print(f"| {title} | {share} | {whole:.1f} : {100 - whole:.1f} | {jobs} |", flush=True)


if __name__ == "__main__":
    main()
