"""When jobs will be rendered, and whether that is by a deadline: arithmetic over a farm and a list of jobs.

It lets the workers that live take the jobs in turn, each as soon as it is free and its hours allow, as fast
as it rendered of late. What else they are given meanwhile, and loading of models, is not counted.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo
from statistics import median
from typing import Any, Self

from pixelkiln.jobs.batches.windows import shown
from pixelkiln.jobs.catalogue import CATALOGUE, DEFAULT_MODEL
from pixelkiln.jobs.queue.farm import Farm, WorkerStatus

WEEK = 7 * 86_400.0
WEEKS = 5  # that are looked ahead: what does not begin by then never does
Hours = Sequence[tuple[float, float]]  # of a week, in seconds since 1970; none: always


@dataclass(frozen=True, slots=True)
class Work:
    """One job: its `model:quantization`, and how much it is, in the unit of the speeds."""

    kind: str
    amount: float
    begun: bool = False  # a worker has it: it is rendered to its end, whatever its own hours are

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Self:
        """What a spec as on the wire asks for: pixels times steps, roughly what its time grows with."""
        model = spec.get("model") or DEFAULT_MODEL
        steps = spec.get("steps") or (CATALOGUE[model].steps.default if model in CATALOGUE else 1)
        kind = f"{model}:{spec.get('quantization') or 'bf16'}"
        return cls(kind, float((spec.get("width") or 1024) * (spec.get("height") or 1024) * steps))


@dataclass(frozen=True, slots=True)
class Forecast:
    """When jobs end, as far as that can be told."""

    ends: tuple[float, ...] = ()  # seconds since 1970, in order
    unserved: tuple[str, ...] = ()  # kinds that no living worker serves
    unknown: tuple[str, ...] = ()  # kinds that none of those that serve them rendered of late
    never: int = 0  # jobs that fit into no worker's hours

    @property
    def complete(self) -> bool:
        """Whether all of the jobs are in `ends`."""
        return not (self.unserved or self.unknown or self.never)

    def by(self, moment: float) -> int:
        """How many have ended by then."""
        return bisect_right(self.ends, moment)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be expected of a deadline."""

    deadline: str  # ISO 8601, in the zone in which it was given
    fits: bool | None  # whether it is met; None where that cannot be told
    late: float | None  # seconds by which the last picture is late, as far as that is known
    told: str  # the same in a line, with the reason

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def of(cls, foreseen: Mapping[str, str] | None) -> Self | None:
        """What a worker wrote of it (`Queue.foreseen`); None where that is none."""
        found = foreseen or {}
        try:
            datetime.fromisoformat(found["deadline"])
            late = float(found["late"]) if found["late"] else None
            return cls(
                found["deadline"], {"yes": True, "no": False}.get(found["fits"]), late, found["outlook"]
            )
        except (KeyError, ValueError):  # strangers may have written it
            return None


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment by which jobs shall be rendered."""

    at: datetime
    zone: tzinfo | None = None

    def verdict(self, forecast: Forecast, now: datetime) -> tuple[bool | None, str]:
        """Whether it is met, None where that cannot be told; and a line that says so."""
        when = shown(self.at, now, self.zone)
        done, total = forecast.by(self.at.timestamp()), len(forecast.ends) + forecast.never
        if forecast.complete and done == total:
            end = datetime.fromtimestamp(forecast.ends[-1], UTC) if forecast.ends else now
            return True, f"ready at {shown(end, now, self.zone)}, before the deadline {when}"
        if forecast.complete:
            end = datetime.fromtimestamp(forecast.ends[-1], UTC)
            at = f"all at {shown(end, now, self.zone)}"
            return False, f"not ready by the deadline {when}: {done} of {total} are by then, {at}"
        if forecast.never:
            return False, f"not ready by the deadline {when}: {forecast.never} fit into no worker's window"
        kinds = ", ".join(forecast.unserved or forecast.unknown)
        why = "no worker serves" if forecast.unserved else "no worker that lives has rendered"
        return None, f"whether it is ready by the deadline {when} cannot be told: {why} {kinds}"


def forecast(
    jobs: Sequence[Work],
    farm: Farm,
    speeds: Mapping[str, Mapping[str, float]],
    now: float,
    hours: Hours = (),
) -> Forecast:
    """When these jobs will have been rendered, taken in turn from `now` on, seconds since 1970.

    `speeds`: amounts of work in a second, by kind and worker; a worker that has none of a kind it serves is
    taken to be as fast as the others. `hours`: in which the jobs let themselves be taken.
    """
    rates = _rates(farm, speeds)
    waiting: dict[str, deque[tuple[int, Work]]] = {}
    for place, job in enumerate(jobs):
        waiting.setdefault(job.kind, deque()).append((place, job))
    served = {kind for worker in _at_work(farm) for kind in worker.serves}
    known = {kind for one in rates.values() for kind in one}
    unserved = tuple(sorted(waiting.keys() - served))
    unknown = tuple(sorted((waiting.keys() & served) - known))
    hands = {worker.name: worker for worker in _at_work(farm)}
    free = [(now, name) for name in sorted(rates)]
    heapq.heapify(free)
    ends = []
    while free:
        moment, name = heapq.heappop(free)
        kinds = [kind for kind in rates[name] if waiting.get(kind)]
        for kind in sorted(kinds, key=lambda kind: waiting[kind][0][0]):
            first = waiting[kind][0][1]
            seconds = first.amount / rates[name][kind]
            begins = _begins(moment, seconds, hands[name].hours, () if first.begun else hours)
            if begins is not None:
                waiting[kind].popleft()
                ends.append(begins + seconds)
                heapq.heappush(free, (begins + seconds, name))
                break
    left = sum(len(some) for kind, some in waiting.items() if kind in known)
    return Forecast(tuple(sorted(ends)), unserved, unknown, left)


def _at_work(farm: Farm) -> list[WorkerStatus]:
    return [
        worker
        for worker in farm.workers
        if not worker.gone and not any(one == "farm" or one.startswith("worker:") for one in worker.paused)
    ]


def _rates(farm: Farm, speeds: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Work in a second, by worker and kind."""
    found: dict[str, dict[str, float]] = {}
    for worker in _at_work(farm):
        for kind in worker.serves:
            measured = {name: speed for name, speed in speeds.get(kind, {}).items() if speed > 0}
            if measured:
                usual = median(measured.values())
                found.setdefault(worker.name, {})[kind] = measured.get(worker.name, usual)
    return found


def _begins(moment: float, seconds: float, worker: Hours, job: Hours) -> float | None:
    """When a worker can begin a job so that it ends within its hours; None where it never can."""
    last = moment + WEEKS * WEEK
    while moment < last:
        at = _within(moment, seconds, worker)
        taken = None if at is None else _within(at, 0.0, job)
        if at is None or taken is None or taken == at:
            return taken
        moment = taken
    return None


def _within(moment: float, seconds: float, hours: Hours) -> float | None:
    """The first moment at or after one from which so many seconds lie in the hours."""
    if not hours:
        return moment
    weeks = max(0, int((moment - hours[-1][1]) // WEEK))
    for week in range(weeks, weeks + WEEKS):
        for opens, closes in hours:
            begins = max(moment, opens + week * WEEK)
            if begins + seconds <= closes + week * WEEK and begins < closes + week * WEEK:
                return begins
    return None
