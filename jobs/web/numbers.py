"""The farm's numbers for Prometheus. Labels have few values: no clients, jobs, batches or workers' names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.farm import Farm, WorkerStatus
from pixelkiln.jobs.queue.pulse import OUTCOMES, Pulse
from pixelkiln.jobs.spec import Priority

CLASS = ("model", "quantization", "priority")
DOES = ("idle", "rendering", "paused", "asleep", "blocked", "gone", "other")
UNDELIVERED = "cannot deliver: "  # in the state of a worker whose pictures wait


@dataclass(slots=True)
class Seen:
    """The farm as a server saw it; None where Redis did not answer."""

    storage: bool
    farm: Farm | None = None
    pulse: Pulse | None = None


class Numbers(Collector):
    """The same as Prometheus has it."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        """All that is known."""
        seen = self._seen
        known = seen.farm is not None and seen.pulse is not None
        yield GaugeMetricFamily("kiln_redis_up", "Whether Redis answers.", value=float(known))
        yield GaugeMetricFamily("kiln_storage_up", "Whether the bucket answers.", value=float(seen.storage))
        if seen.farm is not None and seen.pulse is not None:
            yield from _of_lanes(seen.farm, seen.pulse)
            yield from _of_workers(seen.farm)
            yield from _of_pulse(seen.pulse)


def does(worker: WorkerStatus) -> str:
    """What a worker does, as one of DOES."""
    state = worker.state
    if worker.gone:
        return "gone"
    if state.startswith("takes no jobs: "):
        return "paused" if state.endswith(" is paused") else "blocked"
    if state.startswith("sleeps until "):
        return "asleep"
    return next((one for one in ("idle", "rendering") if state.startswith(one)), "other")


def _of_lanes(farm: Farm, pulse: Pulse) -> Iterator[Metric]:
    waiting: Counter[tuple[str, ...]] = Counter()
    oldest: dict[tuple[str, ...], float] = defaultdict(float)
    for kind in farm.served:
        for priority in get_args(Priority):  # there before the first job is
            some = Lane.parse(f"kiln:{kind}:{priority}:x")
            if some is not None:
                waiting[_class(some)] += 0
    for name, (length, age) in pulse.waiting.items():
        lane = Lane.parse(name)
        if lane is not None:
            waiting[_class(lane)] += length
            oldest[_class(lane)] = max(oldest[_class(lane)], age)
    jobs = GaugeMetricFamily("kiln_lane_jobs", "Jobs that wait and may be taken now.", labels=CLASS)
    ages = GaugeMetricFamily(
        "kiln_lane_oldest_seconds", "How long the first job of a lane has waited, at most.", labels=CLASS
    )
    for labels, length in sorted(waiting.items()):
        jobs.add_metric(labels, length)
        ages.add_metric(labels, oldest[labels])
    yield jobs
    yield ages
    states = GaugeMetricFamily("kiln_farm_jobs", "Jobs that Redis remembers, by state.", labels=("state",))
    for state in ("queued", "later", "started", "finished", "failed"):
        states.add_metric((state,), sum(getattr(lane, state) for lane in farm.lanes))
    yield states


def _class(lane: Lane) -> tuple[str, str, str]:
    return *lane.counted_as, lane.priority if lane.priority in get_args(Priority) else "other"


def _of_workers(farm: Farm) -> Iterator[Metric]:
    counts = Counter(map(does, farm.workers))
    workers = GaugeMetricFamily("kiln_farm_workers", "Workers, by what they do.", labels=("state",))
    for state in DOES:
        workers.add_metric((state,), counts[state])
    yield workers
    stuck = sum(UNDELIVERED in one.state for one in farm.workers)
    yield GaugeMetricFamily("kiln_farm_undelivering_workers", "Workers that cannot deliver.", value=stuck)


def _of_pulse(pulse: Pulse) -> Iterator[Metric]:
    if pulse.due is not None and pulse.late is not None:
        yield GaugeMetricFamily(
            "kiln_batches_due", "Batches whose deadline is to come and is followed.", value=pulse.due
        )
        yield GaugeMetricFamily(
            "kiln_batches_late", "Of these, those that will not be ready by then.", value=pulse.late
        )
    if pulse.webhooks is not None:
        told = CounterMetricFamily(
            "kiln_webhooks_total", "Events sent to webhooks, by outcome.", labels=("outcome",)
        )
        for outcome in OUTCOMES:
            told.add_metric((outcome,), pulse.webhooks.get(outcome, 0))
        yield told
