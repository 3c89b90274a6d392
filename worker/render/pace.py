"""How fast this worker renders, by what it rendered of late."""

from __future__ import annotations

import json
from collections import deque
from statistics import median

from pixelkiln.jobs.batches.forecast import Work
from pixelkiln.jobs.spec import RenderSpec

SAMPLE = 30  # jobs of a kind


class Pace:
    """Seconds that jobs take here, loading of models apart: the median of the last, by how much they are."""

    def __init__(self) -> None:
        self._rates: dict[str, deque[float]] = {}  # work in a second, by kind

    def note(self, spec: RenderSpec, seconds: float) -> dict[str, str]:
        """A job took so long; what a worker's record says of it now."""
        work = Work.of(spec.wire())
        self._rates.setdefault(work.kind, deque(maxlen=SAMPLE)).append(work.amount / max(seconds, 1e-6))
        return {"kiln_speeds": json.dumps({kind: round(median(some)) for kind, some in self._rates.items()})}

    def seconds(self, spec: RenderSpec) -> float | None:
        """How long a job will take; None where none of its kind was rendered yet."""
        work = Work.of(spec.wire())
        known = self._rates.get(work.kind)
        return work.amount / median(known) if known else None
