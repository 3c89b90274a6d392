"""When a worker works, and what it tells of that."""

from __future__ import annotations

from datetime import UTC, datetime

from pixelkiln.jobs.batches.windows import Windows, zone_of
from pixelkiln.worker.host.hours import Hours

BERLIN = zone_of("Europe/Berlin")


def test_a_worker_without_windows_works_always() -> None:
    assert Hours(None).asleep() is None
    assert Hours(None).about() == {}


def test_a_worker_sleeps_outside_its_window() -> None:
    now = [datetime(2026, 11, 26, 12, tzinfo=UTC)]
    hours = Hours(Windows.parse("22:00-07:00", BERLIN), lambda: now[0])
    assert hours.asleep() == "sleeps until 22:00"
    first = hours.about()["kiln_hours"].split(",")[0]
    assert first == f"{datetime(2026, 11, 26, 21, tzinfo=UTC).timestamp():.0f}-" + (
        f"{datetime(2026, 11, 27, 6, tzinfo=UTC).timestamp():.0f}"
    )
    now[0] = datetime(2026, 11, 26, 21, tzinfo=UTC)
    assert hours.asleep() is None
    now[0] = datetime(2026, 11, 27, 6, tzinfo=UTC)
    assert hours.asleep() == "sleeps until 22:00"
