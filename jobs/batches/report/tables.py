"""The tables of a report's page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import tzinfo

from pixelkiln.jobs.batches.report import charts
from pixelkiln.jobs.batches.report.facts import Facts, Told
from pixelkiln.jobs.batches.report.figures import Held, Speed
from pixelkiln.jobs.batches.report.markup import Html, join, tag
from pixelkiln.jobs.batches.report.timeline import Night
from pixelkiln.jobs.batches.report.words import again, amount, clock, lasted, number, size, spread

GAPS = 12  # of a worker's night that are listed, the longest ones


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> Html:
    """A table that scrolls by itself where the page is narrow; a `#` before a column's name: of numbers."""
    numbers = [column.startswith("#") for column in columns]
    head = [
        tag("th", column.lstrip("#"), scope="col", class_="number" if right else None)
        for column, right in zip(columns, numbers, strict=True)
    ]
    body = []
    for first, *others in rows:
        cells = [
            tag("td", value, class_="number" if right else None)
            for value, right in zip(others, numbers[1:], strict=True)
        ]
        body.append(tag("tr", tag("th", first, scope="row"), *cells))
    whole = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("div", whole, class_="wide", role="region", aria_label=f"{title}, table", tabindex=0)


def failures(facts: Facts) -> Html:
    """What failed, by its cause, each with the command that tries again."""
    by_cause: dict[str, list[Told]] = defaultdict(list)
    for one in facts.of("failed"):
        by_cause[one.cause or ""].append(one)
    parts = []
    for cause, some in sorted(by_cause.items(), key=lambda pair: -len(pair[1])):
        rows = []
        for one in some:
            about = [amount(one.attempts, "attempt")] if one.attempts else []
            about += [one.worker] if one.worker else []
            rows.append(_row(one, ", ".join(about), again(facts.name, [one])))
        heading = tag("h3", cause, " ", tag("span", f"× {len(some):,}", class_="quiet"), dir="auto")
        parts.append(join(heading, tag("ul", *rows, class_="rows")))
    return join(*parts)


def unfinished(facts: Facts) -> Html:
    """What was cancelled, and what waits."""
    some = (*facts.of("waiting"), *facts.of("cancelled"))
    rows = [_row(one, f"{one.state}, {one.cause}" if one.cause else one.state, one.id) for one in some]
    return tag("ul", *rows, class_="rows")


def _row(one: Told, about: str, words: str) -> Html:
    """A row without a picture: its number, its prompt, what is told of it, and a command or its id."""
    prompt = tag("p", one.spec.prompt, dir="auto", class_="prompt")
    what = tag("div", prompt, tag("p", about, class_="quiet") if about else None)
    return tag("li", tag("span", f"{one.number:,}", class_="quiet"), what, tag("code", words))


def speeds(found: Sequence[Speed]) -> Html:
    """Seconds for an image and for a step, by engine, size, steps and host."""
    most = max(one.image.most for one in found)
    rows = [
        (
            one.engine,
            join(tag("b", number(one.image.median)), tag("small", spread(one.image))),
            join(tag("b", number(one.step.median)), tag("small", spread(one.step))),
            charts.spread(one.image, most),
            f"{one.size[0]} × {one.size[1]}",
            f"{one.steps}",
            one.host,
            f"{one.pictures:,}",
        )
        for one in found
    ]
    scale = f"0 to {number(most)} s"
    columns = ("Engine", "#s an image", "#s a step", scale, "Size", "#Steps", "Host", "#Pictures")
    return table("Seconds per image and step", columns, rows)


def memory(found: Sequence[Held]) -> Html:
    """Loads, the first picture after one beside the others, and peaks of memory."""
    rows = [
        (
            one.engine,
            number(one.loads.median) if one.loads else "–",
            number(one.first) if one.first is not None else "–",
            number(one.steady) if one.steady is not None else "–",
            size(one.peak_mlx),
            size(one.peak_resident),
            size(one.swap_ins),
            one.host,
            size(one.memory) if one.memory else "–",
            f"{one.times:,}",
            f"{one.pictures:,}",
        )
        for one in found
    ]
    times = ("#s a load", "#s first image", "#s steady")
    memory = ("#Peak MLX", "#Peak process", "#Read from swap")
    columns = ("Engine", *times, *memory, "Host", "#Memory", "#Loads", "#Pictures")
    return table("Loads and memory", columns, rows)


def gaps(night: Night, zone: tzinfo | None) -> Html | None:
    """The longest times in which a worker had no job of the batch."""
    if not night.gaps:
        return None
    longest = sorted(night.gaps, key=lambda gap: -gap.seconds)[:GAPS]
    items = [
        tag(
            "li",
            f"{clock(gap.begin, zone, seconds=True)} to {clock(gap.end, zone, seconds=True)}, ",
            lasted(gap.seconds),
        )
        for gap in sorted(longest)
    ]
    told = amount(len(night.gaps), "gap") + (f", the longest {GAPS}" if len(night.gaps) > GAPS else "")
    return tag("details", tag("summary", told), tag("ol", *items))
