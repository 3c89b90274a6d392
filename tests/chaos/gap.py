"""How long the render thread idles between two jobs, delivery on: `python -m tests.chaos.gap [JOBS]`."""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.chaos.case import Case
from tests.chaos.crew import until

LIMIT = 15.0  # milliseconds at the median, the next prompt's own prefix not counted


def gaps(sidecars: list[Any], events: dict[str, dict[str, float]]) -> list[float]:
    """Milliseconds from each job's last step to the next one's first, less its prefix and that first step."""
    order = sorted(sidecars, key=lambda one: events[one.job.id]["first step"])
    found = []
    for before, after in itertools.pairwise(order):
        idle = events[after.job.id]["first step"] - events[before.job.id]["last step"]
        own = after.timings.prefix + after.timings.steps[0] + after.timings.load
        found.append(1000 * (idle - own))
    return found


def main(count: int) -> int:
    """Render `count` jobs back to back on one worker and tell; 0 where the limit is kept."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        case = Case(Path(folder), stack)
        case.submit(count + 1)
        started = time.monotonic()
        case.worker(direct=True)
        until(case.ended, 600, "the end")
        events: dict[str, dict[str, float]] = {job: {} for job in case.jobs}
        for name in ("first step", "last step"):
            for event in case.events(name):
                events[event["job"]][name] = event["t"]
        sidecars = [case.kiln.sidecar(job) for job in case.jobs]
        found = gaps(sidecars, events)
        first = min(one["first step"] for one in events.values())
        last = max(one["last step"] for one in events.values())
        steps = sum(sum(one.timings.steps) for one in sidecars)
        prefixes = sum(one.timings.prefix for one in sidecars)
        median = statistics.median(found)
        print(f"{count + 1} jobs in {time.monotonic() - started:.1f} s, every picture stored")
        print(f"gap: median {median:.1f} ms, 90% under {statistics.quantiles(found, n=10)[-1]:.1f} ms")
        print(f"of {last - first:.1f} s rendering: {steps / (last - first):.1%} in steps,", end=" ")
        print(f"{prefixes / (last - first):.1%} in prefixes")
        broken = case.settle()
        print(*broken, sep="\n")
        return 1 if broken or median > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 40))
