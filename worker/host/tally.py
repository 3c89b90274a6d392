"""What a worker counts of itself, in memory: adding takes no lock for longer than an addition does.

Whoever watches reads it; nothing here knows how it is served (worker/metrics.py). Labels have few values: no
prompts, ids, clients or labels of jobs.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

STEP = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)  # seconds
IMAGE = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
MODEL = ("model", "quantization")


@dataclass(frozen=True, slots=True)
class Named:
    """One thing that is counted; labels beside `values` are a model's that the worker serves."""

    help: str
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)  # label -> all that it may be
    model: bool = False
    buckets: tuple[float, ...] = ()  # upper bounds, of a histogram

    @property
    def labels(self) -> tuple[str, ...]:
        """Their names, in order."""
        return (*self.values, *(MODEL if self.model else ()))


ENDS = ("finished", "failed", "quarantined", "lost")
COUNTED = {
    "kiln_jobs_total": Named(
        "Jobs that ended here, by how; lost: cancelled, or another worker's by now.",
        {"end": ENDS},
        model=True,
    ),
    "kiln_jobs_recovered_total": Named("Jobs of dead workers that this one gave back to their lanes."),
    "kiln_gpu_busy_seconds_total": Named(
        "Seconds spent on prompts, steps, previews and decoding; its rate is the share of time."
    ),
    "kiln_swap_in_bytes_total": Named("Bytes that the machine read back from swap while jobs rendered."),
    "kiln_upload_retries_total": Named("Deliveries that were put off, to be tried again."),
    "kiln_storage_errors_total": Named(
        "Times that the bucket was away, or refused.", {"kind": ("away", "refused")}
    ),
    "kiln_redis_errors_total": Named("Calls that Redis did not answer, or refused."),
}
TIMED = {
    "kiln_step_seconds": Named("Seconds per step.", model=True, buckets=STEP),
    "kiln_image_seconds": Named(
        "Seconds per picture, from references to decoding.", model=True, buckets=IMAGE
    ),
    "kiln_model_load_seconds": Named("Seconds that loading a model took.", model=True, buckets=IMAGE),
}


@dataclass(slots=True)
class Times:
    """How often something took how long."""

    counts: list[int]  # by bucket, the last for what is beyond all
    sum: float = 0.0


class Tally:
    """The counts of one worker. All methods may be called on any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._times: dict[tuple[str, ...], Times] = {}
        self._in_a_row = 0

    def add(self, name: str, *labels: str, by: float = 1) -> None:
        """Count one more, or `by`, of a thing in COUNTED; its labels in their order."""
        with self._lock:
            self._counts[name, *labels] += by  # type: ignore[assignment] # a Counter takes floats

    def took(self, name: str, *labels: str, seconds: Iterable[float]) -> None:
        """Note how long each of a thing in TIMED took."""
        buckets = TIMED[name].buckets
        with self._lock:
            times = self._times.setdefault((name, *labels), Times([0] * (len(buckets) + 1)))
            for one in seconds:
                times.counts[bisect_left(buckets, one)] += 1
                times.sum += one

    def ended(self, end: str, model: str, quantization: str) -> None:
        """A job has ended here so, one of ENDS."""
        with self._lock:
            self._counts["kiln_jobs_total", end, model, quantization] += 1
            if end == "finished":
                self._in_a_row = 0
            elif end == "failed":
                self._in_a_row += 1

    @property
    def in_a_row(self) -> int:
        """Jobs that failed since the last one that finished."""
        return self._in_a_row

    def counts(self) -> dict[tuple[str, ...], float]:
        """All counts, by name and labels."""
        with self._lock:
            return dict(self._counts)

    def times(self) -> dict[tuple[str, ...], Times]:
        """All times, by name and labels."""
        with self._lock:
            return {one: Times(list(times.counts), times.sum) for one, times in self._times.items()}
