"""Whether this worker still does what it did: failures in a row, swapping, steps that grow slower."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

FAILURES = 3  # in a row, until the canary is asked
SLOW = 2.0  # times the usual seconds per step of its size, from which a job counts as slow,
LOST = 5.0  # if that cost it this many seconds: steps of milliseconds vary by more than that
USUAL = 16  # jobs of a size that tell what is usual
DEGRADED = 3  # jobs in a row, until something is done about it
SWAPPED = 64 * 2**20  # bytes that the machine read back from swap during one job, from which it is told

Cure = Literal["canary", "trim", "reload", "stop"]
_CURES: tuple[Cure, ...] = ("trim", "reload", "stop")  # each tried for DEGRADED jobs before the next


class Health:
    """The history of one worker's jobs, and what to do when it turns bad."""

    def __init__(self) -> None:
        self._medians: dict[object, deque[float]] = {}  # size -> seconds per step of its last good jobs
        self._failures = 0
        self._degraded = 0
        self._acted = 0, 0  # failures and degraded jobs that `cure` has answered
        self.story = ""

    def rendered(self, size: object, steps: Sequence[float], swap_ins: int) -> list[dict[str, Any]]:
        """Note a finished job; the events its sidecar records.

        size: what makes jobs comparable; steps: seconds; swap_ins: bytes, of the whole machine.

        Only a job that was slow while the machine swapped counts as degraded. On a Mac in use other programs
        swap, and Low Power Mode doubles a step: neither is an illness, and what lasts is usual soon.
        """
        self._failures = 0
        median = statistics.median(steps)
        before = self._medians.setdefault(size, deque(maxlen=USUAL))
        usual = statistics.median(before) if before else median
        events: list[dict[str, Any]] = []
        slow = median > SLOW * usual and (median - usual) * len(steps) > LOST
        swapped = swap_ins >= SWAPPED
        if slow:
            events.append({"event": "slow", "median": round(median, 4), "usual": round(usual, 4)})
        if swapped:
            events.append({"event": "swapping", "bytes": swap_ins})
        degraded = slow and swapped
        self._degraded = self._degraded + 1 if degraded else 0
        if not degraded:
            before.append(median)
        if degraded:
            self.story = f"{self._degraded} jobs in a row were degraded, the last one: {events}"
        return events

    def failed(self) -> None:
        """Note a job that failed through no fault of its spec."""
        self._failures += 1

    def cure(self) -> Cure | None:
        """What to do now, if anything: each count is answered once."""
        (failures, degraded), self._acted = self._acted, (self._failures, self._degraded)
        if self._failures != failures and self._failures % FAILURES == 0 and self._failures:
            return "canary"
        if self._degraded != degraded and self._degraded and self._degraded % DEGRADED == 0:
            return _CURES[min(self._degraded // DEGRADED, len(_CURES)) - 1]
        return None
