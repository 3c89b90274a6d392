"""A batch's report as one HTML file: it needs no network, no script and nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from importlib.resources import files
from typing import NamedTuple

from pixelkiln.jobs.batches.report import charts, figures, tables, timeline
from pixelkiln.jobs.batches.report.facts import STATES, Facts
from pixelkiln.jobs.batches.report.markup import Html, join, tag
from pixelkiln.jobs.batches.report.sheet import Pictures, beside, sheet
from pixelkiln.jobs.batches.report.thumbnails import MANY
from pixelkiln.jobs.batches.report.words import again, amount, day, lasted, until, zone_of

# Nothing is fetched and nothing runs, whatever a prompt came to say.
POLICY = "default-src 'none'; img-src data: 'self' file: https: http:; style-src 'unsafe-inline'"


class Section(NamedTuple):
    """A part of the page that the list at its top leads to."""

    id: str
    title: str
    number: str  # of things in it; '' for none
    body: Html
    intro: str | Html = ""


def page(facts: Facts, small: Mapping[str, str], links: Mapping[str, str], zone: tzinfo | None = None) -> str:
    """The page. `small`: thumbnails, `links`: where pictures are, by job id; times in `zone`, else ours."""
    sections = list(_sections(facts, Pictures(small, links), zone))
    items = [
        tag("li", tag("a", one.title, tag("span", one.number) if one.number else None, href=f"#{one.id}"))
        for one in sections
    ]
    parts = [
        tag(
            "section",
            tag("h2", one.title, tag("span", one.number) if one.number else None, id=f"{one.id}-title"),
            tag("p", one.intro, class_="intro") if one.intro else None,
            one.body,
            id=one.id,
            aria_labelledby=f"{one.id}-title",
        )
        for one in sections
    ]
    style = Html(files("pixelkiln.jobs.batches.report").joinpath("page.css").read_text("utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", f"{facts.name}: {_outcome(facts)}"),
        tag("style", style),
    )
    body = tag(
        "body",
        _header(facts, zone),
        tag("nav", tag("ul", *items), aria_label="Parts of this report"),
        tag("main", *parts),
        tag(
            "footer", tag("p", f"Made {day(facts.made, zone)} ({zone_of(facts.made, zone)}) by kiln report.")
        ),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _outcome(facts: Facts) -> str:
    return f"{facts.totals['finished']:,} of {amount(len(facts.told), 'picture')}"


def _header(facts: Facts, zone: tzinfo | None) -> Html:
    totals = facts.totals
    whole = timeline.whole(timeline.nights(facts))
    when = f"{until(whole, zone)}, {lasted(whole.seconds)}" if whole else "nothing has been rendered yet"
    counts = [
        tag("div", tag("dt", state), tag("dd", f"{totals[state]:,}"), class_=f"count is-{state}")
        for state in STATES
    ]
    return tag(
        "header",
        tag("p", f"client {facts.client}", class_="eyebrow"),
        tag("h1", facts.name, dir="auto"),
        tag("p", f"{amount(len(facts.told), 'row')} · {when}", class_="when"),
        tag("dl", *counts, class_="counts"),
        charts.outcomes(totals),
        _agreement(facts),
    )


def _agreement(facts: Facts) -> Html:
    """That the totals were counted in Redis and in the bucket, and where these do not agree."""
    held = f"The bucket holds {amount(facts.bucket, 'picture')} of this batch"
    states = ("finished", "failed", "cancelled", "started", "queued", "unknown")
    redis = ", ".join(f"{facts.redis[one]:,} {one}" for one in states if facts.redis.get(one))
    counted = f"{held}; Redis has {redis or 'none of its jobs'}."
    if not facts.disagreements:
        return tag("p", f"{counted} They agree.", class_="agree")
    listed = [tag("li", tag("code", one.id), f" {one.says}") for one in facts.disagreements]
    summary = tag("summary", f"They disagree on {amount(len(listed), 'job')}")
    return tag(
        "div",
        tag("p", counted),
        tag("details", summary, tag("ul", *listed), open=len(listed) <= 10),
        class_="disagree",
    )


def _sections(facts: Facts, pictures: Pictures, zone: tzinfo | None) -> Iterator[Section]:
    finished, failed = facts.of("finished"), facts.of("failed")
    rows = figures.side_by_side(facts)
    compared = {one.id for row in rows for one in row.by.values()}
    suspicious = [one for one in finished if one.suspicious]
    if suspicious:
        intro = "The checks found these black, dark or flat. They are stored as they are."
        body = sheet(suspicious, pictures)
        yield Section("suspicious", "Look at these first", f"{len(suspicious):,}", body, intro)
    if failed:
        intro = join("All of them again: ", tag("code", again(facts.name, failed)))
        yield Section("failures", "Failures", f"{len(failed):,}", tables.failures(facts), intro)
    open_ = len(facts.told) - len(finished) - len(failed)
    if open_:
        yield Section("unfinished", "Cancelled and waiting", f"{open_:,}", tables.unfinished(facts))
    if rows:
        body = beside(rows, figures.engines(facts), pictures)
        yield Section("beside", "Side by side", f"{len(rows):,}", body)
    rest = [one for one in finished if not one.suspicious and one.id not in compared]
    if rest:
        intro = (
            "" if len(finished) <= MANY else f"The first {MANY:,} have thumbnails, suspicious ones included."
        )
        yield Section("pictures", "Pictures", f"{len(rest):,}", sheet(rest, pictures), intro)
    yield from _measured(facts, zone)


def _measured(facts: Facts, zone: tzinfo | None) -> Iterator[Section]:
    nights = timeline.nights(facts)
    whole = timeline.whole(nights)
    if whole:
        yield Section("night", "The night", "", _nights(facts, nights, whole, zone), _waiting(facts))
    if speeds := figures.speeds(facts):
        intro = (
            "Prompt, steps and decoding, without loads and delivery; pictures that waited for a load are left"
            " out where there are others. Medians, and below each the middle half; the line reaches from the"
            " quickest to the slowest."
        )
        yield Section("speed", "Seconds per image and step", "", tables.speeds(speeds), intro)
    if held := figures.held(facts):
        intro = (
            "Medians; a first image is one right after a load, the load apart. A process' peak includes other"
            " models that it kept in memory."
        )
        yield Section("memory", "Loads and memory", "", tables.memory(held), intro)


def _waiting(facts: Facts) -> str:
    waits = figures.waits(facts)
    if waits is None:
        return ""
    return (
        f"A picture waited {lasted(waits.median)} from submit until a worker took it (median;"
        f" at most {lasted(waits.most)})."
    )


def _nights(facts: Facts, nights: list[timeline.Night], whole: timeline.Span, zone: tzinfo | None) -> Html:
    rows = []
    for one in nights:
        failed = f", {one.failed:,} failed" if one.failed else ""
        told = f"{amount(one.pictures, 'picture')}{failed} · {lasted(one.busy)} at work"
        told += f" ({lasted(one.loading)} loading)" if one.loading else ""
        told += f" · {lasted(one.idle)} without a job" if one.idle >= 1 else ""
        about = ", ".join(filter(None, (one.host if one.host != one.worker else "", one.chip)))
        name = tag("h3", one.worker, tag("small", about) if about else None)
        what = tag("div", name, tag("p", told))
        rows.append(tag("div", what, charts.night(one, whole), tables.gaps(one, zone), class_="mac"))
    kinds = (
        ("render", "rendering"),
        ("load", "loading a model"),
        ("failed", "failed"),
        ("idle", "no job of this batch"),
    )
    legend = [tag("li", tag("i", class_=f"is-{kind}"), words) for kind, words in kinds]
    ends = [one.ended for one in facts.of("finished") if one.ended]
    return join(
        tag("ul", *legend, class_="legend", aria_hidden="true"),
        *rows,
        charts.axis(whole, zone),
        tag("h3", "Pictures ready"),
        charts.hours(ends, whole, zone) if ends else None,
    )
