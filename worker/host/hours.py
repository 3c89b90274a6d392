"""When this worker works: always, or in its windows. Outside it takes no jobs and holds none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from pixelkiln.jobs.batches.windows import Windows, shown


class Hours:
    """The windows of one worker by a clock; None: it works always."""

    def __init__(
        self, windows: Windows | None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._windows = windows
        self._clock = clock

    def asleep(self) -> str | None:
        """Until when it takes no jobs, in words; None while it works."""
        now = self._clock()
        if self._windows is None or self._windows.is_open(now):
            return None
        return f"sleeps until {shown(self._windows.opens(now), now, self._windows.zone)}"

    def about(self) -> dict[str, str]:
        """What a worker's record says of it: the hours of the week to come, in seconds since 1970."""
        return {} if self._windows is None else {"kiln_hours": self._windows.told(self._clock())}
