"""Redis's clock beside this machine's monotonic one, which nobody sets: whether Redis's was set.

Leases end by Redis's clock, and a script there knows no other. It changes where someone sets it, or where a
replica on another machine takes over. Nobody reaps until those that live have renewed by the new time.

What else goes by it takes a time that nobody can have written for past: jobs left (index.lua), marks of
looks (look.lua), records of workers (leave.lua), drains (control.py). Small harm is left. After a step
forward no worker is listed until its next beat, so that a job too large for one fails instead of being
left; a take repeated across more than an hour takes another job, and the first lapses; what a cancelled job
cost is between nothing and its estimate; ended jobs are forgotten as much sooner or later.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import redis

STEP = 5.0  # seconds that it may gain or lose between two looks: a slow reply, a coarse clock


class ServerClock:
    """The clock of one Redis, looked at now and then. Both calls raise redis.RedisError."""

    def __init__(self, connection: redis.Redis, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._monotonic = monotonic
        self._ahead: float | None = None  # of the monotonic clock, when it was last looked at

    def step(self) -> float:
        """Seconds by which it was set since the last call; 0.0 for less than STEP, and at the first.

        Forward also where monotonic time stood still, as it does while a Mac sleeps.
        """
        seconds, microseconds = self._connection.time()
        ahead = seconds + microseconds / 1e6 - self._monotonic()
        step = 0.0 if self._ahead is None else ahead - self._ahead
        self._ahead = ahead
        return step if abs(step) > STEP else 0.0

    def now(self) -> float:
        """What it says now unless it was set since the last `step`, in seconds since 1970."""
        if self._ahead is None:
            self.step()
        assert self._ahead is not None
        return self._ahead + self._monotonic()
