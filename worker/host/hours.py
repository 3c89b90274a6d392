"""When this worker works: always, or in its windows. Outside it takes no jobs and holds none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pixelkiln.jobs.batches.windows import Windows, shown


class Hours:
    """The windows of one worker by a clock; None: it works always."""

    def __init__(
        self, windows: Windows | None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._windows = windows
        self._clock = clock
        self._until: datetime | None = None  # when the window closes for whose rest `left` holds
        self._left: set[str] = set()

    def asleep(self) -> str | None:
        """Until when it takes no jobs, in words; None while it works."""
        now = self._clock()
        if self._windows is None or self._windows.is_open(now):
            return None
        return f"sleeps until {shown(self._windows.opens(now), now, self._windows.zone)}"

    def about(self) -> dict[str, str]:
        """What a worker's record says of it: the hours of the week to come, in seconds since 1970."""
        return {} if self._windows is None else {"kiln_hours": self._windows.told(self._clock())}

    @property
    def left(self) -> set[str]:
        """Kinds of which no more is begun before the window closes."""
        if self._until is not None and self._clock() >= self._until:
            self._until, self._left = None, set()
        return self._left

    def too_late(self, kind: str, seconds: float | None) -> str | None:
        """Why a job that takes so long, as far as known, is left to others; its kind is `left` from now."""
        now = self._clock()
        closes = None if self._windows is None else self._windows.closes(now)
        if self._windows is None or seconds is None or closes is None:
            return None
        if now + timedelta(seconds=seconds) <= closes:
            return None
        self.left.add(kind)
        self._until = closes
        until = shown(closes, now, self._windows.zone)
        return f"would take about {seconds:.0f} s, and the window closes at {until}"
