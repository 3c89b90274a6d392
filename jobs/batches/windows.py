"""Times as people write them: windows of a week, in a zone, and moments in the future. Arithmetic only.

A window opens and closes by the clock on the wall, so that a night on which clocks are set is an hour shorter
or longer. A time that the clock leaves out counts as the moment at which it does, one that comes twice as the
first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

DAYS = ("mo", "tu", "we", "th", "fr", "sa", "su")
NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY = 24 * 60  # minutes
WEEK = 8  # days ahead in which something opens or closes, if anything does
MOST = 20  # windows in one text
TOLD = 30  # of a week
_SPAN = re.compile(
    r"(?:(?P<days>[a-z]+(?:\s*-\s*[a-z]+)?))?\s*"
    r"(?:(?P<from>\d{1,2}:\d\d)\s*-\s*(?P<to>\d{1,2}:\d\d))?"
)
_LATER = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(m|min|h|d)")
_UNITS = {"m": 60, "min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Span:
    """One window: on these days, from one minute of the day to another, or to one of the next day."""

    days: frozenset[int]  # on which it opens; 0 is Monday
    begins: int  # minutes after midnight
    ends: int  # the same of the same day; beyond DAY: of the next

    def of(self, midnight: datetime, zone: tzinfo | None) -> tuple[datetime, datetime] | None:
        """When it opens and closes on the day of a `midnight` without zone, in UTC; None if it does not."""
        if midnight.weekday() not in self.days:
            return None
        opens, closes = (_moment(midnight, minutes, zone) for minutes in (self.begins, self.ends))
        return (opens, closes) if opens < closes else None


@dataclass(frozen=True, slots=True)
class Windows:
    """When something is open. Moments are aware; `zone` None is this machine's own."""

    text: str  # as it was written
    spans: tuple[Span, ...]
    zone: tzinfo | None = None

    @classmethod
    def parse(cls, text: str, zone: tzinfo | None = None) -> Windows:
        """`22:00-07:00`, `Mo-Fr 20:00-07:00, Sa-Su`: days, or every day; times, or the whole day.

        Raises ValueError, in words.
        """
        parts = text.split(",")
        if len(parts) > MOST:
            raise ValueError(f"has more than {MOST} windows")
        return cls(text.strip(), tuple(_span(part) for part in parts), zone)

    def is_open(self, now: datetime) -> bool:
        """Whether it is open at a moment; the moment at which it closes is not in it."""
        return any(opens <= now < closes for opens, closes in self.hours(now))

    def opens(self, now: datetime) -> datetime:
        """When it is open next: `now` where it is."""
        return next(max(opens, now) for opens, closes in self.hours(now) if closes > now)

    def closes(self, now: datetime) -> datetime | None:
        """When it closes: of the window that is open, or opens next; None where it is always open."""
        end = next(closes for _, closes in self.hours(now) if closes > now)
        return end if end < now + timedelta(days=WEEK - 1) else None

    def hours(self, now: datetime) -> list[tuple[datetime, datetime]]:
        """The times from `now` on, for a week, at which it is open: beginnings and ends, in UTC."""
        merged: list[tuple[datetime, datetime]] = []
        for opens, closes in sorted(self._near(now)):
            if merged and opens <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(merged[-1][1], closes)
            else:
                merged.append((opens, closes))
        return [(opens, closes) for opens, closes in merged if closes > now]

    def told(self, now: datetime) -> str:
        """The hours of the week to come as records have them: `<from>-<to>,…` in seconds since 1970."""
        spans = self.hours(now)[:TOLD]
        return ",".join(f"{opens.timestamp():.0f}-{closes.timestamp():.0f}" for opens, closes in spans)

    def _near(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        today = now.astimezone(self.zone).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
        for days in range(-2, WEEK + 1):
            for span in self.spans:
                if (found := span.of(today + timedelta(days=days), self.zone)) is not None:
                    yield found


def zone_of(name: str | None) -> ZoneInfo | None:
    """The zone of a name such as Europe/Berlin; None, for this machine's own, of None. Raises ValueError."""
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"no zone {name[:60]!r} is known here; write it as Europe/Berlin") from None


def moment_in(text: str, now: datetime, zone: tzinfo | None = None) -> datetime | timedelta:
    """`22:00`, the next time that it is so late; `2026-11-27T22:00`; or `3h`, `90m`, `2d` from now.

    Raises ValueError, in words.
    """
    if found := _LATER.fullmatch(text.strip().lower()):
        return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    if re.fullmatch(r"\d{1,2}:\d\d", text.strip()):
        minutes, today = _minutes(text.strip()), now.astimezone(zone).replace(tzinfo=None)
        midnight = datetime.combine(today, time())
        days = (midnight + timedelta(days=n) for n in range(3))
        return next(due for day in days if (due := _moment(day, minutes, zone)) > now)
    try:
        given = datetime.fromisoformat(text.strip())
        if given.year in (MINYEAR, MAXYEAR):  # in another zone it may be none
            raise ValueError
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no time: write 22:00, 2026-11-27T22:00 or 3h") from None
    return given if given.tzinfo is not None else _moment(given, 0, zone)


def shown(moment: datetime, now: datetime, zone: tzinfo | None = None) -> str:
    """A moment for a person: `22:00`, with its day where that is not today's."""
    there, here = moment.astimezone(zone), now.astimezone(zone)
    if there.date() == here.date():
        return f"{there:%H:%M}"
    near = timedelta(0) <= there.date() - here.date() < timedelta(days=7)
    return f"{there:%a %H:%M}" if near else f"{there:%Y-%m-%d %H:%M}"


def _span(text: str) -> Span:
    found = _SPAN.fullmatch(text.strip().lower())
    if not found or not (found["days"] or found["from"]):
        raise ValueError(
            f"{text.strip()[:40]!r} is no window: write 22:00-07:00, or Mo-Fr 20:00-07:00, Sa-Su"
        )
    days = frozenset(range(7))
    if found["days"]:
        first, *last = (_day(name.strip()) for name in found["days"].split("-"))
        days = frozenset((first + n) % 7 for n in range(((last or [first])[0] - first) % 7 + 1))
    if not found["from"]:
        return Span(days, 0, DAY)
    begins, ends = _minutes(found["from"]), _minutes(found["to"])
    if begins in (ends, DAY):
        raise ValueError(f"{text.strip()[:40]!r} begins when it ends; the whole day is 00:00-24:00")
    return Span(days, begins, ends if ends > begins else ends + DAY)


def _day(name: str) -> int:
    for number, whole in enumerate(NAMES):
        if len(name) >= 2 and whole.startswith(name):
            return number
    raise ValueError(f"no day {name[:20]!r}; there are Mo, Tu, We, Th, Fr, Sa, Su")


def _minutes(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > DAY:
        raise ValueError(f"no time {text}; there are 00:00 to 24:00")
    return hours * 60 + minutes


def _moment(midnight: datetime, minutes: int, zone: tzinfo | None) -> datetime:
    """So many minutes after a midnight by the clock on the wall, in UTC."""
    wall = midnight + timedelta(minutes=minutes)
    late, early = (_utc(wall, zone, fold) for fold in (0, 1))
    if late.astimezone(zone).replace(tzinfo=None) == wall:
        return late  # of two the first
    # The clock leaves this time out, between `early` and `late`: find the moment at which it was set.
    before = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) // 2
        early, late = (middle, late) if middle.astimezone(zone).utcoffset() == before else (early, middle)
    return late.replace(microsecond=0)


def _utc(wall: datetime, zone: tzinfo | None, fold: int) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
