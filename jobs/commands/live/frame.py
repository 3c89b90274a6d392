"""A frame: the farm on exactly so many lines of so many cells."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from rich.text import Text

from pixelkiln.jobs.commands.farm import Counts
from pixelkiln.jobs.commands.live import sections
from pixelkiln.jobs.commands.live.cells import fit, line, steady
from pixelkiln.jobs.commands.live.sections import Section
from pixelkiln.jobs.watching.snapshot import Snapshot

AIRY = 36  # lines from which empty ones stand between sections, and pictures have room
TOLD = 3  # lines that a trouble may take
PICTURE = (20, 10)  # cells and lines that a picture may take
FOOTER = "q ends the watching; the jobs go on"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a picture is to be drawn: its upper left cell, from 0."""

    job: str
    line: int
    cell: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What is to be shown: lines of equal width, and pictures over some of them."""

    lines: tuple[Text, ...]
    spots: tuple[Spot, ...] = ()


def pictures_across(width: int, height: int) -> int:
    """How many pictures such a terminal has room for."""
    return (width + 2) // (PICTURE[0] + 2) if height >= AIRY else 0


def frame(
    snapshot: Snapshot, width: int, height: int, *, client: str, zone: tzinfo | None, trouble: str = ""
) -> Frame:
    """The farm on `height` lines, each of `width` cells; `trouble` is why there is no newer snapshot."""
    top = [_header(snapshot, width, zone), *_notices(snapshot, trouble, width, zone)]
    shown = list(snapshot.previews)[: pictures_across(width, height)]
    strip = _captions(snapshot, shown, width) if shown else []
    parts = [
        sections.workers(snapshot, width, height),
        sections.batches(snapshot, width, height),
        sections.lanes(snapshot, width, height),
        sections.failures(snapshot, width, client, zone),
    ]
    body = _shared(
        [part for part in parts if part.items], height - len(top) - len(strip) - 1, height >= AIRY, width
    )
    blank = line("", width)
    space = height - len(top) - len(body) - len(strip) - 1
    lines = [*top, *body, *[blank] * max(0, space), *strip, line(FOOTER, width, "dim")]
    below = len(lines) - 1 - PICTURE[1]  # the line under the captions
    spots = [Spot(job, below, number * (PICTURE[0] + 2)) for number, job in enumerate(shown)]
    return Frame(tuple(lines[:height]), tuple(spots))


def summary(snapshot: Snapshot) -> str:
    """The farm in one line."""
    counts = Counts.of(snapshot.farm.lanes)
    gone = sum(worker.gone for worker in snapshot.farm.workers)
    there = len(snapshot.farm.workers) - gone
    words = [
        f"{there:,} {'worker' if there == 1 else 'workers'}" + (f", {gone:,} gone" if gone else ""),
        f"{counts.queued:,} waiting",
        f"{counts.started:,} rendering",
        f"{counts.failed:,} failed",
        f"{counts.finished:,} finished",
    ]
    return "; ".join(words)


def _header(snapshot: Snapshot, width: int, zone: tzinfo | None) -> Text:
    clock = f"{datetime.fromtimestamp(snapshot.at, UTC).astimezone(zone):%H:%M:%S}"
    text = fit(summary(snapshot), max(0, width - len(clock) - 1))
    return line(f"{text} {clock}" if width > len(clock) else clock, width, "bold")


def _notices(snapshot: Snapshot, trouble: str, width: int, zone: tzinfo | None) -> list[Text]:
    """What is not as it should be."""
    found: list[Text] = []
    if trouble:
        when = f"{datetime.fromtimestamp(snapshot.at, UTC).astimezone(zone):%H:%M:%S}"
        told = textwrap.wrap(f"{steady(trouble)}; this is from {when}, and is tried again", width)
        found += [line(one, width, "bold red") for one in told[:TOLD]]
    if paused := sorted(snapshot.farm.paused):
        found.append(line(f"paused: {', '.join(paused)}; see: kiln resume", width, "yellow"))
    if not any(not worker.gone for worker in snapshot.farm.workers):
        found.append(line("no workers; start one with: kiln worker", width, "yellow"))
    return found


def _shared(parts: Sequence[Section], room: int, airy: bool, width: int) -> list[Text]:
    """The sections below each other; where there is not room for all, none gets more than it wants."""
    extra = int(airy)
    wanted = [part.wanted + extra for part in parts]
    rooms = [0] * len(parts)
    left = room
    while left > 0 and rooms != wanted:
        for number, most in enumerate(wanted):
            if rooms[number] < most and left > 0:
                rooms[number] += 1
                left -= 1
    found: list[Text] = []
    for part, lines in zip(parts, rooms, strict=True):
        if lines > extra + 1:
            found += [line("", width)] * extra + part.lines(lines - extra)
    return found


def _captions(snapshot: Snapshot, shown: Sequence[str], width: int) -> list[Text]:
    """The line over the pictures, and the empty ones that they are drawn on."""
    texts = [
        fit(str(snapshot.places.get(job, "")) or snapshot.prompts.get(job, "") or job, PICTURE[0])
        for job in shown
    ]
    return [line("", width), Text(fit("  ".join(texts), width), "dim"), *[line("", width)] * PICTURE[1]]
