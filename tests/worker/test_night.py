"""A deadline, a window, a pause, a cancel of batches: each does what its line says, by the test's clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from pixelkiln.jobs import Settings, keys
from pixelkiln.jobs.batches.windows import Windows, zone_of
from tests.worker.night import Night, a_night, rows

UTC = zone_of("UTC")
MORNING = datetime(2026, 11, 27, 7, 30, tzinfo=UTC)


@pytest.fixture
def night(settings: Settings) -> Iterator[Night]:
    with a_night(settings) as found:
        yield found


def test_a_deadline_is_followed_and_told_once_each_way(night: Night) -> None:
    night.worker(an_hour=1)
    night.at("2026-11-26T21:00")
    batch = night.kiln.batch(rows(10), name="night", deadline=MORNING)
    foreseen = batch.outlook()
    assert foreseen is not None
    assert (foreseen.fits, foreseen.late) == (True, 0.0)
    assert foreseen.told == "ready at Fri 07:00, before the deadline Fri 07:30"
    assert night.upkeep() == []

    night.at("2026-11-26T23:00")  # and nothing was rendered
    (late,) = night.upkeep()
    assert (late["batch"], late["fits"], late["late"], late["over"]) == ("night", False, 5400.0, False)
    assert late["told"] == "not ready by the deadline Fri 07:30: 8 of 10 are by then, all at Fri 09:00"
    night.at("2026-11-26T23:05")
    assert night.upkeep() == []  # it was told

    assert len(night.render(3)) == 3
    night.at("2026-11-26T23:10")
    (again,) = night.upkeep()
    assert (again["fits"], again["late"]) == (True, 0.0)
    night.at("2026-11-27T02:00")
    assert [one["fits"] for one in night.upkeep()] == [False]

    night.at("2026-11-27T07:30")
    (over,) = night.upkeep()
    assert (over["over"], over["told"]) == (True, "the deadline 07:30 has passed: 7 to be rendered")
    night.at("2026-11-27T08:00")
    assert night.upkeep() == []
    assert night.kiln.redis.exists(keys.DEADLINES) == 0


def test_a_batch_with_a_window_is_rendered_in_it_alone(night: Night) -> None:
    night.worker(an_hour=10)
    windows = Windows.parse("22:00-07:00", UTC)
    batch = night.kiln.batch(rows(3), name="night", not_before=windows, deadline=MORNING)
    foreseen = batch.outlook()
    assert foreseen is not None
    assert foreseen.told == "ready at 22:18, before the deadline Fri 07:30"
    assert night.render() == []
    night.at("2026-11-26T21:59")
    assert night.render() == []
    night.at("2026-11-26T22:00")
    assert night.render() == batch.ids[:1]
    night.at("2026-11-27T06:59")
    assert night.render() == batch.ids[1:2]
    night.at("2026-11-27T07:00")
    assert night.render() == []
    assert [one["told"] for one in night.upkeep()] == [
        "not ready by the deadline 07:30: 0 of 1 are by then, all at 22:06"
    ]
    night.at("2026-11-27T22:00")
    assert night.render() == batch.ids[2:]


def test_a_paused_batch_waits_whatever_the_hour_and_is_rendered_when_resumed(night: Night) -> None:
    night.worker(an_hour=10)
    batch = night.kiln.batch(rows(2), name="night", not_before=Windows.parse("22:00-07:00", UTC))
    batch = night.kiln.batch(rows(2), name="night", deadline=MORNING)  # later: another thought
    assert batch.pause() == 2
    night.at("2026-11-26T22:00")
    assert night.render() == []
    foreseen = batch.status().deadline
    assert foreseen is not None
    assert (foreseen.fits, foreseen.told) == (
        None,
        "whether it is ready by the deadline Fri 07:30 cannot be told: the batch is paused",
    )
    assert night.upkeep() == []  # nobody knows, and nothing was said before
    night.at("2026-11-27T03:00")
    assert night.render() == []
    batch.resume()
    night.at("2026-11-27T03:01")
    assert night.render(5) == batch.ids
    night.at("2026-11-27T07:30")
    assert night.upkeep() == []


def test_a_cancelled_batch_is_never_rendered_and_no_deadline_of_it_is_told(night: Night) -> None:
    night.worker(an_hour=1)
    windows = Windows.parse("22:00-07:00", UTC)
    batch = night.kiln.batch(rows(30), name="night", not_before=windows, deadline=MORNING)
    assert [one["fits"] for one in night.upkeep()] == [False]
    batch.cancel()
    night.at("2026-11-26T22:00")
    assert night.render() == []
    assert [one["fits"] for one in night.upkeep()] == [True]  # of what is left, which is nothing
    night.at("2026-11-27T07:30")
    assert (night.render(), night.upkeep()) == ([], [])
    assert batch.status().cancelled == 30
