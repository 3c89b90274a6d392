"""The parts of a frame: workers, batches, lanes, failures, each as many lines as there is room for.

`most` is how many items there could be room for: rows of all of a thousand lanes take long to make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from rich.text import Text

from pixelkiln.jobs.batches.standing import BatchStatus
from pixelkiln.jobs.commands.about import span
from pixelkiln.jobs.commands.farm import Counts, does
from pixelkiln.jobs.commands.live.cells import ROOMY, Cell, Column, Columns, line
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.farm import WorkerStatus
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.watching.snapshot import Snapshot, by_interest, told_job

GIB = 2**30
RECENT = 5.0  # seconds since a heartbeat that need not be told: one comes every 3
DAY = 20 * 3600  # seconds from which a time needs its date


@dataclass(frozen=True, slots=True)
class Section:
    """A title, items of one line or more, and what is said of those that are not shown."""

    title: Text
    items: Sequence[Sequence[Text]]
    rest: Callable[[int], Text]  # given how many are shown

    @property
    def wanted(self) -> int:
        """Lines of all of it."""
        return 1 + sum(map(len, self.items)) if self.items else 0

    def lines(self, room: int) -> list[Text]:
        """At most so many lines."""
        if self.wanted <= room:
            return [self.title, *(one for item in self.items for one in item)] if self.items else []
        found, shown = [self.title], 0
        for item in self.items:
            if len(found) + len(item) > room - 1:
                break
            found += item
            shown += 1
        return [*found, self.rest(shown)][:room] if shown else [self.rest(0)][:room]


def workers(snapshot: Snapshot, width: int, most: int) -> Section:
    """Who works, what on, how fast."""
    roomy = width >= ROOMY
    columns = Columns(
        width,
        Column("worker", 26 if roomy else 15),
        Column("does", 10),
        Column("s/step", 7 if roomy else 6, right=True),
        Column("GiB", 10 if roomy else 9, right=True),
        Column("seen", 5, right=True),
        Column("model", 26 if roomy else 13),
        *([Column("host", 20)] if roomy else []),
        Column("picture", 0),
    )
    ordered = by_interest(snapshot.farm.workers)

    def rest(shown: int) -> Text:
        what = Counter(map(does, ordered[shown:]))
        listed = ", ".join(f"{number:,} {words}" for words, number in what.most_common())
        return line(f"and {len(ordered) - shown:,} more workers: {listed}", width, "dim")

    return Section(
        columns.heading(), [[_worker(snapshot, one, columns, roomy)] for one in ordered[:most]], rest
    )


def _worker(snapshot: Snapshot, worker: WorkerStatus, columns: Columns, roomy: bool) -> Text:
    held = snapshot.held.get(worker.name, ())
    job = next((one for one in held if one.phase != "delivering"), None)
    if worker.gone:
        ids = [one.id for one in held] or [one for one in [told_job(worker)] if one]
        which = ", ".join(f"{one} ({snapshot.places[one]})" if one in snapshot.places else one for one in ids)
        gone = f"gone {span(worker.age or 0)}, held {which or 'nothing'}"
        return columns.row([worker.name, gone], "red")
    if job is None and not held and not worker.state.startswith("rendering ") and worker.state != "idle":
        style = "yellow" if worker.state.startswith("takes no jobs") else ""
        return columns.row([worker.name, (worker.state, style)])
    told: list[Cell] = [worker.name, *_progress(job, held, worker), _memory(worker), _seen(worker)]
    if job is None:
        told.append((next(iter(worker.resident or worker.serves), ""), "dim"))
    else:
        told.append(lane.kind if (lane := Lane.parse(job.lane)) else job.lane)
    told += [worker.host] if roomy else []
    words = (
        [] if job is None else [_which(snapshot, job), *([snapshot.prompts.get(job.id, "")] if roomy else [])]
    )
    if len(held) > (job is not None):
        words.append(f"+{len(held) - (job is not None)} to store")
    return columns.row([*told, "  ".join(word for word in words if word)])


def _progress(job: JobStatus | None, held: Sequence[JobStatus], worker: WorkerStatus) -> list[Cell]:
    """What it does, and how fast."""
    if job is None and (held or worker.state != "idle"):
        return [("delivering", "green") if held else "busy", ""]
    if job is None:
        return [("idle", "dim"), ""]
    if job.phase != "rendering" or not job.steps:
        return [(job.phase or "taken", "green"), ""]
    return [(f"{job.step}/{job.steps}", "green"), f"{job.each:.2f}" if job.each else "–"]


def _memory(worker: WorkerStatus) -> str:
    if not worker.memory:
        return "–"
    return f"{f'{worker.used / GIB:.1f}' if worker.used else '–'}/{worker.memory / GIB:.0f}"


def _seen(worker: WorkerStatus) -> Cell:
    if worker.age is None:
        return "–"
    return "now" if worker.age <= RECENT else (span(worker.age).replace(" ", ""), "yellow")


def _which(snapshot: Snapshot, job: JobStatus) -> str:
    """Which picture of which batch, or its id."""
    return str(snapshot.places[job.id]) if job.id in snapshot.places else job.id


def batches(snapshot: Snapshot, width: int, most: int) -> Section:
    """How far each is, those that are not done first."""
    roomy = width >= ROOMY
    bar = 40 if roomy else 12
    columns = Columns(
        width,
        Column("batch", 32 if roomy else 16),
        Column("", bar),
        Column("ended", 15 if roomy else 13, right=True),
        Column("left", 12 if roomy else 10, right=True),
        Column("", 0),
    )
    ordered = sorted(snapshot.batches, key=lambda one: not one.open)

    def rest(shown: int) -> Text:
        hidden = ordered[shown:]
        counts = (
            f"{sum(one.open for one in hidden):,} pictures left, {sum(one.failed for one in hidden):,} failed"
        )
        return line(f"and {len(hidden):,} more batches, {counts}", width, "dim")

    items = [[_batch(one, columns, bar)] for one in ordered[:most]]
    if snapshot.unread:
        items.insert(0, [line(f"{snapshot.unread:,} are being looked through", width, "dim")])
        return Section(columns.heading(), items, lambda shown: rest(max(0, shown - 1)))
    return Section(columns.heading(), items, rest)


def _batch(status: BatchStatus, columns: Columns, width: int) -> Text:
    ended = status.total - status.open - status.missing
    words = {
        "failed": status.failed,
        "cancelled": status.cancelled,
        "rendering": status.started,
        "not in Redis": status.missing,
        "suspicious": status.suspicious,
    }
    due = status.deadline
    late = due is not None and due.fits is False
    told = [f"late by {span(due.late)}" if due.late else "not in time"] if due and late else []
    told += [f"{number:,} {what}" for what, number in words.items() if number]
    style = "red" if status.failed or late else ""
    done = f"{ended:,}/{status.total:,}"
    return columns.row([status.name, _bar(status, width), done, _left(status), (", ".join(told), style)])


def _left(status: BatchStatus) -> Cell:
    if not status.open:
        return "done", "green"
    if status.paused:
        return "paused", "yellow"
    return "unknown" if status.eta is None else span(status.eta)


def _bar(status: BatchStatus, width: int) -> Text:
    """What is finished, failed, cancelled, being rendered, and the rest."""
    parts = [
        ("█", "green", status.finished),
        ("▓", "red", status.failed),
        ("▓", "dim", status.cancelled),
        ("▒", "yellow", status.started),
    ]
    bar, seen = Text(), 0
    for glyph, style, number in parts:
        before, seen = width * seen // max(1, status.total), seen + number
        bar.append(glyph * (width * seen // max(1, status.total) - before), style)
    bar.append("░" * (width - len(bar)), "dim")
    return bar


def lanes(snapshot: Snapshot, width: int, most: int) -> Section:
    """Where jobs wait, the fullest first."""
    columns = Columns(
        width,
        Column("lane", 70 if width >= ROOMY else 0),
        *(Column(title, 9, right=True) for title in ("waiting", "rendering", "finished")),
        *(Column(title, 7, right=True) for title in ("failed", "later")),
    )
    ordered = sorted(snapshot.farm.lanes, key=lambda one: Counts.of([one]).weight, reverse=True)

    def rest(shown: int) -> Text:
        hidden = Counts.of(ordered[shown:])
        failed = f", {hidden.failed:,} failed" if hidden.failed else ""
        jobs = f"{hidden.queued + hidden.started:,} jobs{failed}"
        return line(f"and {len(ordered) - shown:,} more lanes, {jobs}", width, "dim")

    def name(lane: str) -> str:
        return lane.removeprefix("kiln:") if Lane.parse(lane) else lane

    items = [[columns.row([name(one.lane), *map(_number, Counts.of([one]))])] for one in ordered[:most]]
    return Section(columns.heading(), items, rest)


def _number(number: int) -> str:
    return f"{number:,}" if number else "·"


def failures(snapshot: Snapshot, width: int, client: str, zone: tzinfo | None) -> Section:
    """What failed last, why, and the command that tries it again."""
    failed = Counts.of(snapshot.farm.lanes).failed

    def rest(shown: int) -> Text:
        return line(f"and {failed - shown:,} more: kiln jobs --state failed --any-client", width, "dim")

    columns = Columns(width, Column("", 10), Column("", 40 if width >= ROOMY else 16), Column("", 0))

    def item(job: JobStatus) -> list[Text]:
        lane, place = Lane.parse(job.lane), snapshot.places.get(job.id, "")
        other = " --any-client" if lane is not None and lane.client != client else ""
        which = f"{place} {snapshot.prompts.get(job.id, '')}"
        cause = columns.row([_when(job, snapshot.at, zone), which, (job.error or "it failed", "red")])
        return [cause, columns.row(["", f"kiln retry {job.id}{other}"], "dim")]

    title = line(f"last failures of {failed:,}", width, "bold cyan")
    return Section(title, [item(one) for one in snapshot.failures], rest)


def _when(job: JobStatus, now: float, zone: tzinfo | None) -> str:
    try:
        moment = datetime.fromisoformat(job.ended_at)
    except ValueError:
        return "?"
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    form = "%H:%M:%S" if abs(now - moment.timestamp()) < DAY else "%Y-%m-%d"
    return f"{moment.astimezone(zone):{form}}"
