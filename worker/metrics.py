"""What a worker tells those who watch it: numbers for Prometheus, whether it lives, whether it takes jobs.

Everything is read when it is asked for, on the asker's thread; nothing here takes a lock that a render waits
for longer than an addition.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker import engines
from pixelkiln.worker.deliver.delivery import Delivery
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.engines.checkpoints.installed import Installed
from pixelkiln.worker.host import machine
from pixelkiln.worker.host.pages import Page, Pages
from pixelkiln.worker.host.tally import COUNTED, TIMED, Named, Tally, Times
from pixelkiln.worker.queue.control import Control
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.render.renderer import Renderer

T = TypeVar("T")

IDLE = ("idle", "rendering")  # what the state of a worker that takes jobs begins with


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a worker is looked at."""

    heartbeat: Heartbeat
    control: Control
    renderer: Renderer
    spool: Spool
    delivery: Delivery

    def unready(self) -> str | None:
        """Why it takes no jobs, or cannot bring home what it renders, in a line; None where it does both."""
        if self.heartbeat.broken is not None or self.delivery.broken is not None:
            return "a thread of it died; see its log"
        if self.renderer.unwell is not None:
            return self.renderer.unwell
        standing = self.control.standing
        if standing.leave:
            return "it was told to leave"
        if standing.here:
            return f"takes no jobs: {standing.here}"
        if self.heartbeat.away_since is not None:
            return "Redis is away"
        state = self.heartbeat.state
        if not state.startswith(IDLE):
            return state
        trouble = self.delivery.trouble
        return None if trouble is None else f"cannot deliver: {trouble}"


def watching(
    settings: Settings, name: str, served: Mapping[str, Installed], parts: Parts, tally: Tally
) -> Pages | None:
    """The pages of a worker, where KILN_METRICS says at which address; not started."""
    if settings.metrics is None:
        return None
    numbers = _Numbers(settings, name, list(served), parts, tally)

    def metrics() -> Page:
        return Page(generate_latest(numbers), kind=CONTENT_TYPE_LATEST)

    def ready() -> Page:
        why = parts.unready()
        return Page(b"ready\n") if why is None else Page(f"{plain(why)}\n".encode(), 503)

    pages = {"/metrics": metrics, "/healthz": lambda: Page(b"ok\n"), "/readyz": ready}
    host, _, port = settings.metrics.rpartition(":")
    return Pages((host.strip("[]"), int(port)), pages)


class _Numbers(Collector):
    """A worker's numbers, as they are when they are asked for."""

    def __init__(
        self, settings: Settings, name: str, kinds: Collection[str], parts: Parts, tally: Tally
    ) -> None:
        self._settings, self._name, self._parts, self._tally = settings, name, parts, tally
        self._kinds = [tuple(kind.split(":")) for kind in kinds]

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield self._info()
        yield from self._counters()
        yield from self._histograms()
        for name, (help, value) in self._gauges().items():
            yield GaugeMetricFamily(name, help, value=value)
        resident = GaugeMetricFamily(
            "kiln_model_resident", "Whether a model is in memory.", labels=("model", "quantization")
        )
        there = self._parts.renderer.residents.kinds
        for kind in self._kinds:
            resident.add_metric(kind, float(":".join(kind) in there))
        yield resident

    def _info(self) -> Metric:
        about = {"worker": self._name, "version": version("pixelkiln")}
        return InfoMetricFamily("kiln_worker", "Which worker this is.", value=about)

    def _counters(self) -> Iterator[Metric]:
        counts = self._tally.counts()
        for name, one in COUNTED.items():
            family = CounterMetricFamily(name, one.help, labels=one.labels)
            found = _of(name, counts)
            for labels in self._all(one, found):
                family.add_metric(labels, found.get(labels, 0))
            yield family

    def _histograms(self) -> Iterator[Metric]:
        times = self._tally.times()
        for name, one in TIMED.items():
            family = HistogramMetricFamily(name, one.help, labels=one.labels)
            none = Times([0] * (len(one.buckets) + 1))
            found = _of(name, times)
            for labels in self._all(one, found):
                took = found.get(labels, none)
                bounds = [*map(str, one.buckets), "+Inf"]
                counts = itertools.accumulate(took.counts)
                family.add_metric(labels, list(zip(bounds, counts, strict=True)), took.sum)
            yield family

    def _all(self, one: Named, found: Collection[tuple[str, ...]]) -> list[tuple[str, ...]]:
        """Every set of labels that can be told now, so that a number is there before it changes first."""
        values = list(itertools.product(*one.values.values()))
        kinds = self._kinds if one.model else [()]
        expected = [(*some, *kind) for some in values for kind in kinds]
        return [*expected, *(labels for labels in found if labels not in expected)]

    def _gauges(self) -> dict[str, tuple[str, float]]:
        parts, settings = self._parts, self._settings
        active, cached = engines.held()
        pictures = parts.spool.waiting()
        return {
            "kiln_ready": ("Whether it takes jobs and can deliver them.", float(parts.unready() is None)),
            "kiln_rendering": (
                "Whether it renders now.",
                float(parts.heartbeat.state.startswith("rendering")),
            ),
            "kiln_redis_up": ("Whether Redis answers.", float(parts.heartbeat.away_since is None)),
            "kiln_storage_up": (
                "Whether pictures can be spooled and stored.",
                float(parts.delivery.trouble is None),
            ),
            "kiln_failures_in_a_row": ("Jobs that failed since one finished.", self._tally.in_a_row),
            "kiln_spool_pictures": ("Pictures that wait to be stored.", pictures),
            "kiln_spool_limit_pictures": (
                "Pictures, KILN_SPOOL_JOBS, from which it takes no jobs.",
                settings.spool_jobs,
            ),
            "kiln_spool_bytes": ("Bytes of the pictures that wait.", _bytes(parts.spool.root)),
            "kiln_spool_free_bytes": ("Bytes free on the spool's disk.", parts.spool.free()),
            "kiln_spool_free_limit_bytes": (
                "Bytes free, KILN_SPOOL_FREE, below which it takes no jobs.",
                float(settings.spool_free),
            ),
            "kiln_memory_budget_bytes": ("Bytes that it may use.", parts.renderer.budget.total),
            "kiln_memory_resident_bytes": ("Bytes that its process holds.", machine.resident_bytes()),
            "kiln_mlx_active_bytes": ("Bytes that MLX holds.", active),
            "kiln_mlx_cache_bytes": ("Bytes that MLX has freed and keeps.", cached),
            "kiln_mlx_peak_bytes": (
                "Bytes that MLX held at most for a job, other models aside.",
                parts.renderer.peak,
            ),
        }


def _of(name: str, counted: Mapping[tuple[str, ...], T]) -> dict[tuple[str, ...], T]:
    """What was counted under a name, by labels."""
    return {tuple(labels): value for (of, *labels), value in counted.items() if of == name}


def _bytes(root: Path) -> int:
    total = 0
    for path in root.glob("done-*/image.png"):
        try:
            total += path.stat().st_size
        except OSError:  # stored meanwhile
            continue
    return total
