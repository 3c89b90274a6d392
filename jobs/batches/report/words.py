"""Numbers and times as people read them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, tzinfo

from pixelkiln.jobs.batches.report.facts import UNKNOWN, Told
from pixelkiln.jobs.batches.report.figures import Spread
from pixelkiln.jobs.batches.report.timeline import Span


def amount(number: int, one: str, several: str | None = None) -> str:
    """So many things: '1 picture', '2,000 pictures'."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def lasted(seconds: float) -> str:
    """A duration: '0.21 s', '14 s', '3 min 20 s', '8 h 44 min'."""
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def number(seconds: float) -> str:
    """Seconds to three digits, without the unit."""
    return f"{seconds:.{3 if seconds < 1 else 2 if seconds < 10 else 1 if seconds < 100 else 0}f}"


def spread(of: Spread) -> str:
    """The middle half: '3.10 to 3.42'; one number where it is as narrow as that."""
    lower, upper = number(of.lower), number(of.upper)
    return lower if lower == upper else f"{lower} to {upper}"


def size(count: int) -> str:
    """Bytes: '0', '312 MB', '17.6 GB'."""
    if not count:
        return "0"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.{count < 1e7:d}f} MB"


def clock(moment: datetime, zone: tzinfo | None, *, seconds: bool = False) -> str:
    """A time of the day in a zone; None: this machine's."""
    return moment.astimezone(zone).strftime("%H:%M:%S" if seconds else "%H:%M")


def day(moment: datetime, zone: tzinfo | None) -> str:
    """'Thursday, 26 November 2026, 21:03'."""
    there = moment.astimezone(zone)
    return f"{there:%A}, {there.day} {there:%B %Y, %H:%M}"


def until(span: Span, zone: tzinfo | None) -> str:
    """From when to when: the day it began, and the other one where it ended on that."""
    begin, end = span.begin.astimezone(zone), span.end.astimezone(zone)
    other = f"{end:%A} " if begin.date() != end.date() else ""
    return f"{day(span.begin, zone)} to {other}{end:%H:%M}"


def zone_of(moment: datetime, zone: tzinfo | None) -> str:
    """What the zone is called, and how far it is from UTC: 'CET, UTC+01:00'."""
    there = moment.astimezone(zone)
    offset = there.strftime("%z")
    name = there.tzname() or ""
    told = f"UTC{offset[:3]}:{offset[3:5]}"
    return "UTC" if name == "UTC" else told if name.startswith(("+", "-", "UTC")) else f"{name}, {told}"


def again(batch: str, some: Sequence[Told]) -> str:
    """The command that renders again what failed: one job, or the batch's; what nobody knows is sent anew."""
    if any(one.cause == UNKNOWN for one in some):
        return f"kiln retry --batch {shlex.quote(batch)}"
    return (
        f"kiln retry {some[0].id}" if len(some) == 1 else f"kiln retry --batch {shlex.quote(batch)} --failed"
    )
