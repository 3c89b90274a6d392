"""What a job's client pays for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pixelkiln.worker.engines.engine import Step

WARM = 2  # the step from which a job's cost is foreseen: the first one compiles


class Meter:
    """Seconds that a job has held this worker: references, prompt, steps, previews, decoding.

    Not the loading of a model: whoever comes first would pay for those who find it in memory.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()
        self._foreseen = 0.0

    def start(self) -> None:
        """A job was taken."""
        self._began, self._foreseen = self._clock(), 0.0

    @property
    def seconds(self) -> float:
        """What the job has cost so far."""
        return self._clock() - self._began

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The block is not charged."""
        before = self._clock()
        try:
            yield
        finally:
            self._began += self._clock() - before

    def cost(self, step: Step) -> float:
        """What the job costs in all, as far as can be said after this step; never less than so far."""
        if step.index == WARM:
            left = step.total - step.index if step.left is None else step.left
            self._foreseen = self.seconds + left * step.seconds
        return max(self.seconds, self._foreseen)
