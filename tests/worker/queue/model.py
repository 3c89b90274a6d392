"""In which order jobs are taken: a model in plain Python, and a checker that drives a farm beside it.

    failures = check(farm, seed=1, operations=20_000)

`farm` is any object with the methods of Farm.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

DAY = 86_400.0
RANK = {"high": 0, "normal": 1, "low": 2}
UNBOUNDED = 2**53  # bytes
SIZES = (10, 50, 99)  # of jobs that are left


class Lane(NamedTuple):
    """Where jobs of one client, kind and priority wait; any priority that is none comes last."""

    kind: str  # model:quantization
    priority: str
    client: str

    @property
    def name(self) -> str:
        """As RQ's queue is called."""
        return f"kiln:{self.kind}:{self.priority}:{self.client}"


class Ask(NamedTuple):
    """What a worker says when it takes."""

    served: Sequence[str]
    resident: Collection[str] = ()
    memory: int = UNBOUNDED
    paused: Collection[str] = ()
    estimate: float = 30.0


class Farm(Protocol):
    """What is checked. Moments are seconds since 1970; what was enqueued before `stale` counts as stale."""

    stale: float

    def submit(self, job: str, lane: Lane, since: float) -> None:
        """Enqueue a job."""

    def take(self, token: str, ask: Ask) -> str | None:
        """The job taken; the same again for the same token while it is held, else None."""

    def settle(self, token: str, job: str, seconds: float) -> None:
        """End a job that is held, at that cost."""

    def release(self, token: str, job: str) -> None:
        """Give a job that is held back to the front of its lane."""

    def cancel(self, job: str) -> None:
        """End a job, queued or held; held, it stays charged until its worker hears."""

    def leave(self, token: str, job: str, needed: int, seconds: float) -> None:
        """Leave a job that is held to workers with `needed` bytes, one of which lives, for so long."""

    def push(self, job: str, lane: Lane, since: float) -> None:
        """As submit, but by RQ alone. The farm need not know of it before `look`."""

    def empty(self, lane: Lane) -> None:
        """As RQ's Queue.empty; jobs that were left to larger workers stay."""

    def look(self) -> None:
        """What the farm does every second or two to find what it was not told of."""

    def forge(self, rng: random.Random, lane: Lane) -> bool:
        """Do harm that changes nothing; True where it may until the next `look`."""


@dataclass
class Model:
    """The order itself, by looking at everything."""

    stale: float
    waiting: dict[tuple[Lane, int], deque[str]] = field(default_factory=lambda: defaultdict(deque))
    since: dict[str, float] = field(default_factory=dict)
    held: dict[str, tuple[str, Lane, float]] = field(default_factory=dict)  # by token
    spent: set[str] = field(default_factory=set)  # tokens that took a job, held or given back
    clocks: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    floor: float = 0.0
    due: dict[str, int] = field(default_factory=dict)  # left jobs to be looked at anew, in this order
    leaves: int = 0
    unsure: set[tuple[Lane, int]] = field(
        default_factory=set
    )  # the farm may not know yet that a job waits there

    def clock(self, client: str) -> float:
        """Never below the floor: who was away is owed nothing. Nor a day above it: that is forged."""
        clock = max(self.clocks[client], self.floor)
        return clock if clock <= self.floor + DAY else self.floor

    def allowed(self, ask: Ask) -> set[tuple[Lane, int] | None]:
        """From where a take may come: the best place, or one as good that is not known for sure."""
        self._bring_back()
        ranked: list[tuple[tuple[Any, ...], tuple[Lane, int]]] = []
        for place, jobs in self.waiting.items():
            lane, needed = place
            if jobs and lane.kind in ask.served and lane.client not in ask.paused and needed <= ask.memory:
                since = self.since[jobs[0]]
                about = 0 if since < self.stale else 1 if lane.kind in ask.resident else 2
                clock = self.clock(lane.client)
                ranked.append(((RANK[lane.priority], clock, about, since, lane.name, needed), place))
        ranked.sort()
        found: set[tuple[Lane, int] | None] = set()
        for _, place in ranked:
            found.add(place)
            if place not in self.unsure:
                return found
        return found | {None}

    def took(self, token: str, place: tuple[Lane, int], estimate: float) -> None:
        """The first job there is its worker's."""
        lane = place[0]
        self.held[token] = self.waiting[place].popleft(), lane, estimate
        self.floor = self.clock(lane.client)
        self.clocks[lane.client] = self.floor + estimate
        self.spent.add(token)

    def settle(self, token: str, seconds: float) -> None:
        """A charge in place of the estimate."""
        _, lane, estimate = self.held.pop(token)
        self.clocks[lane.client] += seconds - estimate
        self.spent.discard(token)

    def release(self, token: str, needed: int = 0, *, due: bool = False) -> None:
        """Back to the front of its lane, or behind those left to larger workers."""
        job, lane, estimate = self.held.pop(token)
        self.clocks[lane.client] -= estimate
        self.unsure.discard((lane, needed))
        if needed:
            self.waiting[lane, needed].append(job)
            if due:
                self.leaves += 1
                self.due[job] = self.leaves
        else:
            self.waiting[lane, 0].appendleft(job)

    def cancel(self, job: str) -> None:
        """Wherever it is, without a refund."""
        for token in [token for token, one in self.held.items() if one[0] == job]:
            del self.held[token]
            self.spent.discard(token)
        for jobs in self.waiting.values():
            if job in jobs:
                jobs.remove(job)
                self.due.pop(job, None)

    def _bring_back(self) -> None:
        """Left jobs return when all before them have: in truth each is left for as long as the others."""
        ready = [place for place, jobs in self.waiting.items() if place[1] and jobs and jobs[0] in self.due]
        for lane, needed in sorted(ready, key=lambda place: self.due[self.waiting[place][0]]):
            left = self.waiting[lane, needed]
            while left and left[0] in self.due:
                del self.due[left[0]]
                self.waiting[lane, 0].appendleft(left.popleft())


def check(farm: Farm, seed: int, operations: int, *, clients: int = 12) -> list[str]:
    """Drive farm and model with the same random operations. Where they part: the last of these, else []."""
    rng = random.Random(seed)
    model = Model(farm.stale)
    kinds, names = ["demo:bf16", "demo:q6", "big:bf16"], [f"c{c}" for c in range(clients)]
    done: list[str] = []
    log: deque[str] = deque(maxlen=60)
    moves: dict[str, float] = {"submit": 30, "take": 40, "again": 3, "settle": 18, "release": 7, "cancel": 4}
    moves |= {"leave": 5, "push": 4, "empty": 0.3, "look": 4, "forge": 6}

    def lane() -> Lane:
        return Lane(rng.choice(kinds), rng.choice(list(RANK)), names[int(rng.random() ** 2 * clients)])

    def since() -> float:
        return model.stale + rng.choice((-DAY, DAY)) + rng.randrange(40) / 4

    for n in range(operations):
        move = rng.choices(list(moves), list(moves.values()))[0]
        token = rng.choice(list(model.held)) if model.held else ""
        job = model.held[token][0] if token and move in {"settle", "release", "leave"} else ""
        log.append(f"{n} {move} {job}")
        if move in {"submit", "push"}:
            job, place, moment = f"j{n}", lane(), since()
            if move == "push" and done and rng.random() < 0.3:
                job = done.pop()  # as RQ requeues
            log[-1] += f" {job} {place.name} {moment - model.stale}"
            model.since[job] = moment
            if move == "push" and not model.waiting[place, 0]:
                model.unsure.add((place, 0))
            elif move == "submit":
                model.unsure.discard((place, 0))
            model.waiting[place, 0].append(job)
            getattr(farm, move)(job, place, moment)
        elif move == "take":
            served = rng.sample(kinds, rng.randint(1, 3))
            paused = rng.choices(names, k=rng.choice((0, 0, 1, 5)))
            memory, estimate = rng.choice((UNBOUNDED, 5, 40, 100)), rng.choice((0.0, 5.0, 30.0, 30.5))
            resident = rng.sample(kinds, rng.randint(0, 3))
            ask = Ask(served, resident, memory, paused, estimate)
            allowed = model.allowed(ask)
            got = farm.take(token := f"t{seed}-{n}", ask)
            heads = {model.waiting[place][0] if place else None: place for place in allowed}
            log[-1] += f" {ask} -> {got}, allowed {list(heads)}, floor {model.floor}"
            if got not in heads:
                return list(log)
            if (found := heads[got]) is not None:
                model.took(token, found, ask.estimate)
                if not model.waiting[found[0], 0]:
                    model.unsure.discard(found)
        elif move == "again" and model.spent:
            token = rng.choice(sorted(model.spent))
            expected = model.held[token][0] if token in model.held else None
            got = farm.take(token, Ask(kinds))
            log[-1] += f" {token} -> {got}, expected {expected}"
            if got != expected:
                return list(log)
        elif move == "settle" and token:
            seconds = rng.choice((0.0, 1.0, 12.25, 60.0, 4000.0, 100_000.0))
            log[-1] += f" {seconds}"
            model.settle(token, seconds)
            farm.settle(token, job, seconds)
            done.append(job)
        elif move == "release" and token:
            model.release(token)
            farm.release(token, job)
        elif move == "leave" and token:
            needed, due = rng.choice(SIZES), rng.random() < 0.3
            log[-1] += f" {needed} {due}"
            model.release(token, needed, due=due)
            farm.leave(token, job, needed, 0.0 if due else 600.0)
        elif move == "cancel":
            waiting = [one for jobs in model.waiting.values() for one in jobs]
            if there := waiting + [one[0] for one in model.held.values()]:
                job = rng.choice(there)
                log[-1] += f" {job}"
                model.cancel(job)
                farm.cancel(job)
        elif move == "empty":
            model.waiting[place := lane(), 0].clear()
            farm.empty(place)
        elif move == "look":
            model._bring_back()
            farm.look()
            model.unsure.clear()
        elif move == "forge" and farm.forge(rng, lane()):
            lanes = [Lane(kind, rank, name) for kind in kinds for rank in RANK for name in names]
            model.unsure = {(one, needed) for one in lanes for needed in (0, *SIZES)}
    return []
