"""Charts as plain SVG, which stretches to the page; their words are HTML beside them, which does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo

from pixelkiln.jobs.batches.report.facts import State
from pixelkiln.jobs.batches.report.figures import Spread
from pixelkiln.jobs.batches.report.markup import Html, join, tag
from pixelkiln.jobs.batches.report.timeline import Night, Span
from pixelkiln.jobs.batches.report.words import amount, clock, lasted, number

WIDTH = 1000  # units of every chart, however wide it is shown
TICKS = 9  # at most on the axis of a night
_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400]


def outcomes(totals: Mapping[State, int]) -> Html:
    """One bar of all rows, in the parts that ended in each way."""
    rows = sum(totals.values()) or 1
    at, parts = 0.0, []
    for state, count in totals.items():
        width = WIDTH * count / rows
        parts.append(tag("rect", class_=f"is-{state}", x=_at(at), y=0, width=_at(width), height=12))
        at += width
    told = ", ".join(f"{count:,} {state}" for state, count in totals.items())
    return _svg(12, "outcomes", told, *parts)


def night(one: Night, whole: Span) -> Html:
    """What a worker did, along the whole night of all of them; what is left free it had nothing to do."""
    parts = []
    for stretch in one.stretches:
        begin, end = _along(stretch.span.begin, whole), _along(stretch.span.end, whole)
        y = 0 if stretch.what == "failed" else 4  # seen by those who do not tell its colour, too
        title = tag("title", f"{_WHAT[stretch.what]}, {lasted(stretch.span.seconds)}{_jobs(stretch.jobs)}")
        parts.append(
            tag(
                "g",
                title,
                tag("rect", x=_at(begin), y=y, width=_at(max(end - begin, 1)), height=26 - 2 * y),
                class_=f"is-{stretch.what}",
            )
        )
    told = (
        f"{one.worker}: {amount(one.pictures, 'picture')}, {one.failed:,} failed,"
        f" {lasted(one.busy)} at work, {lasted(one.idle)} without a job"
    )
    return _svg(26, "night", told, *parts)


def axis(whole: Span, zone: tzinfo | None) -> Html:
    """The times below the nights: full ones by the clock of the zone."""
    step = next((one for one in _STEPS if whole.seconds / one <= TICKS), _STEPS[-1])
    first = whole.begin.astimezone(zone)
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    passed = (first - midnight).total_seconds()
    moment = midnight + timedelta(seconds=-(-passed // step) * step)
    ticks: list[Html] = []
    while moment <= whole.end:
        along = _along(moment, whole) / WIDTH
        if 0.02 <= along <= 0.98:  # else its words would reach beyond the page
            words = clock(moment, zone, seconds=step < 60)
            ticks.append(
                tag("span", words, style=f"left:{along:.2%}", class_="odd" if len(ticks) % 2 else None)
            )
        moment += timedelta(seconds=step)
    return tag("div", *ticks, class_="axis", aria_hidden="true")


def spread(of: Spread, most: float) -> Html:
    """A line from the least to the most, the middle half thick, the median marked; 0 is at the left."""
    unit = WIDTH / (most or 1)
    thick = max((of.upper - of.lower) * unit, 6)
    told = f"median {number(of.median)}, from {number(of.least)} to {number(of.most)} seconds"
    return _svg(
        16,
        "spread",
        told,
        tag(
            "rect",
            class_="range",
            x=_at(of.least * unit),
            y=7,
            width=_at((of.most - of.least) * unit),
            height=2,
        ),
        tag("rect", class_="half", x=_at(of.lower * unit), y=3, width=_at(thick), height=10),
        tag("rect", class_="median", x=_at(of.median * unit - 3), y=0, width=6, height=16),
    )


def hours(ends: Sequence[datetime], whole: Span, zone: tzinfo | None) -> Html:
    """How many pictures were ready in each part of the night."""
    parts = max(min(48, len(ends)), 1)
    counts = [0] * parts
    for moment in ends:
        counts[min(int(_along(moment, whole) / WIDTH * parts), parts - 1)] += 1
    most, width = max(counts), WIDTH / parts
    bars = []
    for place, count in enumerate(counts):
        height = 60 * count / most
        begin = whole.begin + (whole.end - whole.begin) * place / parts
        title = tag("title", f"{amount(count, 'picture')} from {clock(begin, zone)}")
        bar = tag(
            "rect", x=_at(place * width + 1), y=_at(60 - height), width=_at(width - 2), height=_at(height)
        )
        bars.append(tag("g", title, bar, class_="is-render"))
    each = lasted(whole.seconds / parts)
    told = f"Pictures ready in each {each} of the night: at most {most:,}, {len(ends):,} in all"
    return join(_svg(60, "hours", told, *bars), axis(whole, zone))


_WHAT = {"load": "loading a model", "render": "rendering", "failed": "failed"}


def _jobs(count: int) -> str:
    return f", {amount(count, 'job')}" if count else ""


def _along(moment: datetime, whole: Span) -> float:
    seconds = (moment - whole.begin).total_seconds()
    return WIDTH * min(max(seconds / (whole.seconds or 1), 0), 1)


def _at(units: float) -> str:
    return f"{units:.2f}".rstrip("0").rstrip(".")


def _svg(height: int, class_: str, told: str, *parts: Html) -> Html:
    box = f"0 0 {WIDTH} {height}"
    return tag(
        "svg", *parts, class_=class_, viewBox=box, preserveAspectRatio="none", role="img", aria_label=told
    )
