"""How the farm is shown to a person: all of it where it is small, else totals and what matters most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, get_args

from rich.table import Table

from pixelkiln.jobs.commands.output import out, print_table
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.farm import Farm, LaneStatus, WorkerStatus
from pixelkiln.jobs.spec import Priority

MANY = 30  # lanes, or workers, from which only some are shown
FEW = 10  # of many that are shown


class Counts(NamedTuple):
    """Jobs of some lanes, by where they stand."""

    queued: int = 0
    started: int = 0
    finished: int = 0
    failed: int = 0
    later: int = 0

    @classmethod
    def of(cls, lanes: Iterable[LaneStatus]) -> Counts:
        """Those of all the lanes together."""
        each = [(lane.queued, lane.started, lane.finished, lane.failed, lane.later) for lane in lanes]
        return cls(*map(sum, zip(*each, strict=True)))

    @property
    def weight(self) -> tuple[int, int, int]:
        """What there is to do first, then what went wrong."""
        return self.queued + self.started + self.later, self.failed, self.finished


def show(farm: Farm, whole: bool) -> None:
    """Print what waits in each lane and what each worker does; `whole`: however many there are."""
    if not farm.lanes:
        out.print("no jobs yet")
    elif whole or len(farm.lanes) <= MANY:
        print_table(_lanes("lanes", farm.lanes))
    else:
        print_table(_totals(farm.lanes))
        busiest = sorted(farm.lanes, key=lambda lane: Counts.of([lane]).weight, reverse=True)[:FEW]
        print_table(
            _lanes(f"{FEW} of {len(farm.lanes):,} lanes, the busiest; kiln status --all: all", busiest)
        )
    if paused := sorted(farm.paused):
        some = [*paused[:MANY], f"and {len(paused) - MANY:,} more"] if len(paused) > MANY else paused
        out.print(f"paused: {', '.join(some)}")
    if not farm.workers:
        out.print("no workers; start one with: kiln worker")
    elif whole or len(farm.workers) <= MANY:
        print_table(_workers("workers", farm.workers))
    else:
        doing = Counter(map(does, farm.workers))
        listed = ", ".join(f"{number:,} {what}" for what, number in doing.most_common(FEW))
        # What few do is what one looks for: who takes no jobs, among many that render.
        rare = sorted(farm.workers, key=lambda worker: doing[does(worker)])[:FEW]
        out.print(f"{len(farm.workers):,} workers: {listed}")
        print_table(_workers(f"{FEW} of them; kiln status --all: all", rare))


def _lanes(title: str, lanes: Iterable[LaneStatus]) -> Table:
    table = Table("lane", *Counts._fields, title=title, title_justify="left")
    for lane in lanes:
        table.add_row(lane.lane, *map(str, Counts.of([lane])))
    return table


def _totals(lanes: Sequence[LaneStatus]) -> Table:
    """Sums over all, by kind, priority and client; of many of these, the busiest."""
    parsed = [(Lane.parse(lane.lane), lane) for lane in lanes]
    table = Table("", "", *Counts._fields, title="totals", title_justify="left")

    def add(of: str, name: str, counts: Counts) -> None:
        table.add_row(of, name, *(f"{number:,}" for number in counts))

    add("all", "", Counts.of(lanes))
    by: dict[str, Callable[[Lane], str]] = {
        "model": lambda lane: lane.kind.partition(">")[0],  # of left jobs, too
        "priority": lambda lane: lane.priority if lane.priority in get_args(Priority) else "another",
        "client": lambda lane: lane.client,
    }
    for of, named in by.items():
        groups = defaultdict(list)
        for lane, one in parsed:
            if lane is not None:
                groups[named(lane)].append(one)
        sums = sorted(
            ((Counts.of(some), name) for name, some in groups.items()),
            key=lambda pair: pair[0].weight,
            reverse=True,
        )
        for counts, name in sums[:FEW]:
            add(of, name, counts)
        if rest := [counts for counts, _ in sums[FEW:]]:
            add(of, f"{len(rest):,} others", Counts(*map(sum, zip(*rest, strict=True))))
    if strangers := [one for lane, one in parsed if lane is None]:
        add("no lanes", f"{len(strangers):,} queues named kiln:…", Counts.of(strangers))
    return table


def _workers(title: str, workers: Iterable[WorkerStatus]) -> Table:
    table = Table("worker", "does", "seen", "serves", "in memory", title=title, title_justify="left")
    for worker in workers:
        listed = (",".join(names) for names in (worker.serves, worker.resident))
        table.add_row(worker.name, worker.state, _seen(worker), *listed)
    return table


def _seen(worker: WorkerStatus) -> str:
    """How long ago it told that it lives; of an older worker, when, by its own clock."""
    return f"{worker.age:.0f} s ago" if worker.age is not None else worker.seen[:19]


def does(worker: WorkerStatus) -> str:
    """A worker's state without what differs from one to the next: which job, or why it takes none."""
    if worker.gone:
        return "gone"
    words = worker.state.partition(":")[0]
    if words.startswith("sleeps until "):
        return "sleeps"
    return "rendering" if words.startswith("rendering ") else words
