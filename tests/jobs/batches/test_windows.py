"""Windows and moments as people write them, around nights on which clocks are set."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from pixelkiln.jobs.batches.windows import Windows, moment_in, shown, zone_of

BERLIN = zone_of("Europe/Berlin")
SPRING, AUTUMN = "2026-03-28", "2026-10-24"  # Saturdays; clocks are set in the night to Sunday


def at(text: str) -> datetime:
    """A moment by a clock in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def night(text: str, day: str) -> tuple[datetime, datetime]:
    """When a window opens and closes next, from noon of a day."""
    return Windows.parse(text, BERLIN).hours(at(f"{day}T12:00"))[0]


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-26T21:59:59", False),
        ("2026-11-26T22:00:00", True),
        ("2026-11-26T23:59:59", True),
        ("2026-11-27T00:00:00", True),
        ("2026-11-27T06:59:59", True),
        ("2026-11-27T07:00:00", False),
    ],
)
def test_a_window_across_midnight(moment: str, is_open: bool) -> None:
    assert Windows.parse("22:00-07:00", BERLIN).is_open(at(moment)) == is_open


def test_when_it_opens_and_closes() -> None:
    windows, noon = Windows.parse("22:00-07:00", BERLIN), at("2026-11-26T12:00")
    assert (windows.opens(noon), windows.closes(noon)) == (at("2026-11-26T22:00"), at("2026-11-27T07:00"))
    midnight = at("2026-11-27T00:00")
    assert (windows.opens(midnight), windows.closes(midnight)) == (midnight, at("2026-11-27T07:00"))


def test_a_night_on_which_clocks_are_set_is_shorter_or_longer() -> None:
    assert night("22:00-07:00", SPRING) == (utc("2026-03-28T21:00"), utc("2026-03-29T05:00"))
    assert night("22:00-07:00", AUTUMN) == (utc("2026-10-24T20:00"), utc("2026-10-25T06:00"))


def test_a_time_that_the_clock_leaves_out_is_the_moment_at_which_it_does() -> None:
    """At 2:00 it is 3:00: both 02:15 and 02:45 are then, and what lies between them is nothing."""
    assert night("02:30-05:00", SPRING) == (utc("2026-03-29T01:00"), utc("2026-03-29T03:00"))
    assert night("22:00-02:30", SPRING) == (utc("2026-03-28T21:00"), utc("2026-03-29T01:00"))
    assert night("02:15-02:45", SPRING) == (utc("2026-03-30T00:15"), utc("2026-03-30T00:45"))


def test_of_a_time_that_comes_twice_the_first_counts() -> None:
    assert night("02:15-02:45", AUTUMN) == (utc("2026-10-25T00:15"), utc("2026-10-25T00:45"))
    assert night("22:00-02:30", AUTUMN) == (utc("2026-10-24T20:00"), utc("2026-10-25T00:30"))


def test_days_of_the_week() -> None:
    windows = Windows.parse("Mo-Fr 20:00-07:00, Sa-Su", BERLIN)
    opened = [(opens, closes) for opens, closes in windows.hours(at("2026-11-26T12:00"))][:3]
    assert opened == [
        (at("2026-11-26T20:00"), at("2026-11-27T07:00")),  # Thursday
        (at("2026-11-27T20:00"), at("2026-11-30T00:00")),  # Friday's night goes over into the weekend
        (at("2026-11-30T20:00"), at("2026-12-01T07:00")),
    ]


@pytest.mark.parametrize("text", ["fri-mo 8:00-9:00", "Fr-Mon 08:00 - 09:00", " FRIDAY-monday 08:00-09:00"])
def test_days_go_over_the_end_of_the_week_and_are_written_in_any_way(text: str) -> None:
    days = {opens.astimezone(BERLIN).weekday() for opens, _ in Windows.parse(text, BERLIN).hours(utc(SPRING))}
    assert days == {4, 5, 6, 0}


@pytest.mark.parametrize("text", ["Mo-Su", "00:00-24:00", "00:00-12:00, 12:00-24:00"])
def test_what_is_always_open_never_closes(text: str) -> None:
    windows, now = Windows.parse(text, BERLIN), at("2026-10-24T12:00")
    assert windows.is_open(now)
    assert windows.closes(now) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'' is no window: write 22:00-07:00, or Mo-Fr 20:00-07:00, Sa-Su"),
        ("22-7", "'22-7' is no window"),
        ("22:00", "'22:00' is no window"),
        ("22:00-07:00;", "is no window"),
        ("22:00-07:00,", "'' is no window"),
        ("25:00-07:00", "no time 25:00"),
        ("22:60-07:00", "no time 22:60"),
        ("07:00-07:00", "begins when it ends"),
        ("24:00-07:00", "begins when it ends"),
        ("Xy 01:00-02:00", "no day 'xy'; there are Mo, Tu, We, Th, Fr, Sa, Su"),
        ("m 01:00-02:00", "no day 'm'"),
        (",".join(["22:00-07:00"] * 21), "more than 20 windows"),
    ],
)
def test_what_is_no_window_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match="^.*" + told.replace("'", ".")):
        Windows.parse(text)


def test_without_a_zone_it_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        opens, closes = Windows.parse("22:00-07:00").hours(utc("2026-11-26T12:00"))[0]
        assert (opens, closes) == (utc("2026-11-26T13:00"), utc("2026-11-26T22:00"))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_zone_that_nobody_knows_is_told() -> None:
    assert zone_of(None) is None
    for name in ("Europe/Nowhere", "../../etc/passwd", "", "x" * 300):
        with pytest.raises(ValueError, match="no zone"):
            zone_of(name)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("22:00", at("2026-11-26T22:00")),
        ("11:59", at("2026-11-27T11:59")),
        ("12:00", at("2026-11-27T12:00")),
        ("24:00", at("2026-11-27T00:00")),
        ("2026-11-28T22:00", at("2026-11-28T22:00")),
        ("2026-11-28 22:00", at("2026-11-28T22:00")),
        ("2026-11-28T22:00Z", utc("2026-11-28T22:00")),
        ("3h", timedelta(hours=3)),
        ("1.5h", timedelta(minutes=90)),
        ("90m", timedelta(minutes=90)),
        ("2 d", timedelta(days=2)),
    ],
)
def test_a_moment_as_people_write_it(text: str, due: datetime | timedelta) -> None:
    assert moment_in(text, at("2026-11-26T12:00"), BERLIN) == due


def test_the_next_time_of_day_on_a_night_on_which_clocks_are_set() -> None:
    assert moment_in("02:30", at("2026-03-28T23:00"), BERLIN) == utc("2026-03-29T01:00")
    assert moment_in("02:30", at("2026-10-24T23:00"), BERLIN) == utc("2026-10-25T00:30")


@pytest.mark.parametrize("text", ["", "soon", "25:00", "22:61", "3", "h", "-3h", "2026-13-01T00:00", "22"])
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time"):
        moment_in(text, at("2026-11-26T12:00"), BERLIN)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("2026-11-26T22:00", "22:00"),
        ("2026-11-27T07:00", "Fri 07:00"),
        ("2026-12-24T18:00", "2026-12-24 18:00"),
    ],
)
def test_a_moment_for_a_person(moment: str, words: str) -> None:
    assert shown(at(moment), at("2026-11-26T12:00"), BERLIN) == words
