"""Whether a batch is ready by its deadline, by how its jobs stand: arithmetic, without servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pixelkiln.jobs.batches.forecast import Outlook
from pixelkiln.jobs.batches.manifest import Entry, Manifest
from pixelkiln.jobs.batches.outlook import deadline_of, header, outlook
from pixelkiln.jobs.batches.windows import Windows, zone_of
from pixelkiln.jobs.queue.farm import Farm, WorkerStatus, hours_in
from pixelkiln.jobs.queue.queue import Standing, Stood

NOW = datetime(2026, 11, 27, 7, tzinfo=UTC)
STAMP = "2026-11-27T{}:00Z"
SPEC = {"prompt": "x", "model": "demo", "width": 60, "height": 60, "steps": 1}  # an hour, at 1 a second
SPEEDS = {"demo:bf16": {"a": 1.0}}


def seen(
    *states: Stood | None, deadline: str = "07:30", started: str = "06:00", ended: str = "", hours: str = ""
) -> Outlook:
    """Of a batch whose jobs stand so, on one worker, which renders one in an hour."""
    options = {"deadline": f"2026-11-27T{deadline}:00+00:00", "hours": hours}
    entries = tuple(Entry(n, f"job-{n}", str(n), SPEC) for n in range(len(states)))
    times = (STAMP.format(started), STAMP.format(ended) if ended else "")
    standing = {
        entry.id: None if state is None else Standing(state, *times)
        for entry, state in zip(entries, states, strict=True)
    }
    farm = Farm(workers=(WorkerStatus("a", serves=("demo:bf16",)),))
    found = outlook(Manifest("night", "me", "", "", False, entries, options), standing, farm, SPEEDS, NOW)
    assert found is not None
    return found


def test_of_what_is_being_rendered_only_the_rest_is_left() -> None:
    assert seen("started", started="06:15").told == "ready at 07:15, before the deadline 07:30"
    assert seen("started", started="05:00").fits is True  # it takes longer than others: no time is foreseen
    assert seen("started", started="06:59").late == 29 * 60
    assert seen("queued", "started", started="06:15", deadline="08:15").fits is True


def test_what_was_begun_in_a_window_is_rendered_to_its_end() -> None:
    over = Windows.parse("22:00-07:00", UTC).told(NOW)
    assert seen("started", started="06:15", hours=over).fits is True
    assert seen("queued", hours=over, deadline="09:00").late == 14 * 3600


def test_only_what_has_not_ended_is_waited_for() -> None:
    found = seen("finished", "cancelled", "queued", "held", deadline="09:00", ended="06:00")
    assert (found.fits, found.told) == (True, "ready at 09:00, before the deadline 09:00")
    assert seen("failed", "queued", None, deadline="09:00").told == (
        "ready at 08:00, before the deadline 09:00; without 1 failed, 1 never sent"
    )
    assert seen("failed", "finished", ended="06:00") == Outlook(
        "2026-11-27T07:30:00+00:00", False, None, "not ready by the deadline 07:30: 1 failed"
    )


def test_what_is_over() -> None:
    assert seen("queued", "failed", None, deadline="06:00").told == (
        "the deadline 06:00 has passed: 1 to be rendered, 1 failed, 1 never sent"
    )
    assert seen("queued", deadline="06:00").late == 3600
    ready = seen("finished", "cancelled", deadline="06:00", ended="05:59")
    assert (ready.fits, ready.told) == (True, "ready since 05:59, before the deadline 06:00")
    late = seen("finished", deadline="06:00", ended="06:30")
    assert (late.fits, late.late, late.told) == (False, 1800, "ready since 06:30, after the deadline 06:00")


def test_what_a_header_keeps() -> None:
    berlin = zone_of("Europe/Berlin")
    assert header(None, None, berlin, NOW) == {}
    given = header(timedelta(hours=24), timedelta(hours=1), berlin, NOW)
    assert given["deadline"] == "2026-11-28T08:00:00+01:00"
    assert hours_in(given["hours"])[0][0] == NOW.timestamp() + 3600
    windows = Windows.parse("22:00-07:00", UTC)
    assert header(None, windows, berlin, NOW) == {"hours": windows.told(NOW)}
    for forged in ("", "soon", "2026-11-28T08:00:00", None, 7, ["x"]):
        assert deadline_of({"deadline": forged}) is None
