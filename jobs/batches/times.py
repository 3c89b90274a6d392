"""When jobs may be taken, and when they shall be ready, as commands and requests say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pixelkiln.jobs.batches.windows import Windows, moment_in, zone_of
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.queue.queue import When


def when(zone: str | None, not_before: str | None, window: str | None = None) -> When | None:
    """When jobs may be taken: from a moment on, or in a window. Raises SpecError."""
    if not_before is not None and window is not None:
        raise SpecError("window", "is no use beside not_before; give one of them")
    try:
        if window is not None:
            return Windows.parse(window, zone_of(zone))
        return None if not_before is None else moment_in(not_before, datetime.now(UTC), zone_of(zone))
    except ValueError as error:
        raise SpecError("window" if not_before is None else "not_before", str(error)) from None


def due(zone: str | None, deadline: str | None) -> datetime | timedelta | None:
    """When all shall be ready: a moment that is still to come. Raises SpecError."""
    now = datetime.now(UTC)
    try:
        at = None if deadline is None else moment_in(deadline, now, zone_of(zone))
    except ValueError as error:
        raise SpecError("deadline", str(error)) from None
    if at is not None and (now + at if isinstance(at, timedelta) else at) <= now:
        raise SpecError("deadline", f"{deadline} is over; name one that is to come")
    return at
