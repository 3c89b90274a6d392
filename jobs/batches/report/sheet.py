"""The pictures on the page: the contact sheet, and engines side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pixelkiln.jobs.batches.report.facts import Told
from pixelkiln.jobs.batches.report.figures import Beside, host_of, seconds
from pixelkiln.jobs.batches.report.markup import Html, join, tag
from pixelkiln.jobs.batches.report.words import lasted, number


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is shown of the pictures, by job id."""

    small: Mapping[str, str]  # thumbnails as data addresses
    links: Mapping[str, str]  # where the pictures themselves are, as the page names it


def sheet(told: Iterable[Told], pictures: Pictures) -> Html:
    """Pictures in a grid, each with its prompt, its seed and, opened, all else that is known."""
    return tag("ul", *(tag("li", _figure(one, pictures)) for one in told), class_="sheet")


def beside(rows: Sequence[Beside], engines: Sequence[str], pictures: Pictures) -> Html:
    """A table of pictures: a prompt and seed in each row, an engine in each column."""
    shown = [engine for engine in engines if any(engine in row.by for row in rows)]
    head = tag(
        "tr", tag("th", "Prompt and seed", scope="col"), *(tag("th", one, scope="col") for one in shown)
    )
    body = []
    for row in rows:
        seed = tag("span", "seed ", tag("code", str(row.seed)), class_="seed")
        title = tag("strong", row.title) if row.title else None
        what = tag("th", title, tag("span", row.prompt, class_="prompt", dir="auto"), seed, scope="row")
        cells = [tag("td", _cell(row.by.get(engine), engine, pictures)) for engine in shown]
        body.append(tag("tr", what, *cells))
    return tag("table", tag("thead", head), tag("tbody", *body), class_="beside")


def _cell(one: Told | None, engine: str, pictures: Pictures) -> Html:
    if one is None:
        return tag("p", "not asked for", class_="quiet")
    name = tag("p", engine, class_="engine", aria_hidden="true")  # where columns become one
    if one.state != "finished":
        return join(name, tag("p", f"{one.state}: {one.cause}" if one.cause else one.state, class_="quiet"))
    below = [tag("span", f"{number(seconds(one.sidecar))} s")] if one.sidecar else []
    return join(name, _picture(one, pictures), tag("p", *below, *_marks(one), class_="below"))


def _figure(one: Told, pictures: Pictures) -> Html:
    seed = "" if one.spec.seed is None else str(one.spec.seed)
    short = tag("span", one.spec.prompt, class_="prompt", dir="auto")
    line = tag("span", tag("span", f"{one.number:,}"), " · seed ", tag("code", seed), class_="seed")
    summary = tag("summary", short, line, *_marks(one))
    details = tag("details", summary, tag("dl", *_known(one)))
    return tag("figure", _picture(one, pictures), tag("figcaption", details))


def _marks(one: Told) -> list[Html]:
    return [tag("span", words, class_="mark") for words in one.suspicious]


def _picture(one: Told, pictures: Pictures) -> Html:
    """The thumbnail, which opens the picture where that is known to lie beside the page."""
    small, link = pictures.small.get(one.id), pictures.links.get(one.id)
    name = f"Picture {one.number:,}"
    sides = one.sidecar.png if one.sidecar else one.spec
    if small:
        shown = tag(
            "img",
            src=small,
            alt=name,
            width=sides.width,
            height=sides.height,
            loading="lazy",
            decoding="async",
        )
    else:
        missing = "not in the bucket" if not one.stored else "no thumbnail"
        shown = tag("span", f"{name}: {missing}", class_="missing")
    return tag("a", shown, href=link, class_="picture") if link else tag("span", shown, class_="picture")


def _known(one: Told) -> Iterable[Html]:
    """Names and values of all else."""
    rows = [("engine", one.engine), ("job", one.id)]
    if one.sidecar is not None:
        timings, png = one.sidecar.timings, one.sidecar.png
        rows += [
            ("size", f"{png.width} × {png.height}"),
            ("took", f"{number(seconds(one.sidecar))} s, {len(timings.steps)} steps"),
            ("waited", lasted(timings.queue_wait)),
            ("on", f"{host_of(one.sidecar)}, attempt {one.attempts}"),
            ("picture", png.key),
        ]
        if timings.load:
            rows.insert(4, ("load", f"{number(timings.load)} s"))
    rows += [(f"label {name}", value) for name, value in one.spec.labels.items()]
    for name, value in rows:
        yield tag("dt", name)
        yield tag("dd", value, dir="auto")
