"""A batch's report as Markdown, for a ticket or a chat: the same facts without pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import tzinfo

from pixelkiln.jobs.batches.report import figures, timeline
from pixelkiln.jobs.batches.report.facts import STATES, Facts, Told
from pixelkiln.jobs.batches.report.words import (
    again,
    amount,
    day,
    lasted,
    number,
    size,
    spread,
    until,
    zone_of,
)
from pixelkiln.jobs.plain import plain

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~<>&])")


def markdown(facts: Facts, zone: tzinfo | None = None) -> str:
    """The report; times in `zone`, else this machine's."""
    return "\n".join(_lines(facts, zone)) + "\n"


def text(written: str) -> str:
    """What somebody wrote, on one line, so that it reads as it was written."""
    return _MARKUP.sub(r"\\\1", plain(" ".join(written.split())))


def code(words: str) -> str:
    """A command or an id as code, in a cell, too; backticks in it end nothing."""
    fence = "`" * (max(map(len, re.findall("`+", words)), default=0) + 1)
    room = " " if "`" in words else ""
    return f"{fence}{room}{words}{room}{fence}".replace("|", "\\|")


def _lines(facts: Facts, zone: tzinfo | None) -> Iterator[str]:
    nights = timeline.nights(facts)
    whole = timeline.whole(nights)
    yield f"# {text(facts.name)}"
    yield ""
    if whole:
        yield f"{until(whole, zone)}, {lasted(whole.seconds)}."
        yield ""
    yield from _table(
        (*STATES, "rows"), [[*(f"{facts.totals[one]:,}" for one in STATES), f"{len(facts.told):,}"]]
    )
    redis = (
        ", ".join(f"{count:,} {state}" for state, count in sorted(facts.redis.items())) or "none of its jobs"
    )
    agree = "" if facts.disagreements else " They agree."
    yield f"The bucket holds {amount(facts.bucket, 'picture')} of this batch; Redis has {redis}.{agree}"
    yield ""
    if facts.disagreements:
        yield "**They disagree:**"
        yield ""
        yield from (f"- {code(one.id)} {text(one.says)}" for one in facts.disagreements)
        yield ""
    if suspicious := [one for one in facts.told if one.suspicious]:
        yield from _section("Look at these first")
        rows = [[*_row(one), text(", ".join(one.suspicious)), code(one.id)] for one in suspicious]
        yield from _table(("row", "prompt", "seed", "found", "job"), rows)
    if failed := facts.of("failed"):
        yield from _section("Failures")
        yield f"All of them again: {code(again(facts.name, failed))}"
        yield ""
        rows = [[*_row(one)[:2], text(one.cause or ""), code(again(facts.name, [one]))] for one in failed]
        yield from _table(("row", "prompt", "cause", "to try again"), rows)
    if open_ := [*facts.of("waiting"), *facts.of("cancelled")]:
        yield from _section("Cancelled and waiting")
        yield from _table(
            ("row", "prompt", "state", "job"), [[*_row(one)[:2], one.state, code(one.id)] for one in open_]
        )
    yield from _measured(facts, nights, zone)
    yield f"Made {day(facts.made, zone)} ({zone_of(facts.made, zone)}) by kiln report."


def _measured(facts: Facts, nights: list[timeline.Night], zone: tzinfo | None) -> Iterator[str]:
    if nights:
        yield from _section("The night")
        rows = [
            [
                text(one.worker),
                text(one.host),
                until(one.span, zone),
                f"{one.pictures:,}",
                f"{one.failed:,}",
                lasted(one.busy),
                lasted(one.loading),
                lasted(one.idle),
                lasted(max((gap.seconds for gap in one.gaps), default=0.0)),
            ]
            for one in nights
        ]
        columns = (
            "worker",
            "host",
            "from, to",
            "pictures",
            "failed",
            "at work",
            "loading",
            "idle",
            "longest gap",
        )
        yield from _table(columns, rows)
    if speeds := figures.speeds(facts):
        yield from _section("Seconds per image and step")
        yield "Medians with the middle half; loads and delivery apart."
        yield ""
        rows = [
            [
                one.engine,
                f"{one.size[0]} × {one.size[1]}",
                f"{one.steps}",
                text(one.host),
                f"{one.pictures:,}",
                f"{number(one.image.median)} ({spread(one.image)})",
                f"{number(one.step.median)} ({spread(one.step)})",
            ]
            for one in speeds
        ]
        yield from _table(("engine", "size", "steps", "host", "pictures", "s an image", "s a step"), rows)
    if held := figures.held(facts):
        yield from _section("Loads and memory")
        rows = [
            [
                one.engine,
                text(one.host),
                f"{one.times:,}",
                number(one.loads.median) if one.loads else "–",
                number(one.first) if one.first is not None else "–",
                number(one.steady) if one.steady is not None else "–",
                size(one.peak_mlx),
                size(one.peak_resident),
                size(one.swap_ins),
            ]
            for one in held
        ]
        times = ("engine", "host", "loads", "s a load", "s first image", "s steady")
        yield from _table((*times, "peak MLX", "peak process", "read from swap"), rows)


def _row(one: Told) -> list[str]:
    return [f"{one.number:,}", text(one.spec.prompt), "" if one.spec.seed is None else str(one.spec.seed)]


def _section(title: str) -> Iterator[str]:
    yield f"## {title}"
    yield ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
