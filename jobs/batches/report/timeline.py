"""The night of each worker: when it rendered, loaded or failed, and when it had nothing to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal, NamedTuple

from pixelkiln.jobs.batches.report.facts import Facts, Told
from pixelkiln.jobs.batches.report.figures import host_of

What = Literal["load", "render", "failed"]

FINEST = 1000  # parts of the night: what lies closer than one of these is drawn as one
SHORTEST = 10.0  # seconds from which on a pause between two jobs is told as one


class Span(NamedTuple):
    """From when to when something went on."""

    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """How long that was."""
        return (self.end - self.begin).total_seconds()


class Stretch(NamedTuple):
    """A span of one kind of work."""

    what: What
    span: Span
    jobs: int


@dataclass(frozen=True, slots=True)
class Night:
    """One worker's."""

    worker: str
    host: str  # '' where none of its pictures tells
    chip: str
    span: Span  # from its first job to the end of its last
    pictures: int
    failed: int
    busy: float  # seconds with a job, loads included
    loading: float  # seconds of these
    gaps: tuple[Span, ...]  # without a job of this batch, from SHORTEST on
    stretches: tuple[Stretch, ...]  # as they are drawn: near ones together

    @property
    def idle(self) -> float:
        """Seconds without a job of this batch, between its first and its last."""
        return max(0.0, self.span.seconds - self.busy)


def whole(nights: Sequence[Night]) -> Span | None:
    """From the first job of any worker to the end of the last."""
    if not nights:
        return None
    return Span(min(one.span.begin for one in nights), max(one.span.end for one in nights))


def nights(facts: Facts) -> list[Night]:
    """Of every worker that took a job and ended it, the earliest first.

    A job holds its worker from its take until it is rendered, or the next is taken: pictures are encoded and
    stored while the next one renders.
    """
    by_worker: dict[str, list[Told]] = defaultdict(list)
    for one in facts.told:
        if one.worker and one.started and one.ended and one.state in ("finished", "failed"):
            by_worker[one.worker].append(one)
    found = {worker: _spans(some) for worker, some in by_worker.items()}
    if not found:
        return []
    begin = min(spans[0][1].begin for spans in found.values())
    end = max(spans[-1][1].end for spans in found.values())
    finest = max((end - begin) / FINEST, timedelta(milliseconds=1))
    every = [_night(worker, spans, finest) for worker, spans in found.items()]
    return sorted(every, key=lambda one: (one.span.begin, one.worker))


def _spans(some: list[Told]) -> list[tuple[Told, Span]]:
    """When each job held its worker, in their order; none reaches into the next."""
    timed = [(one, one.started, one.ended) for one in some if one.started and one.ended]
    timed.sort(key=lambda one: (one[1], one[2]))
    ends = [begin for _, begin, _ in timed[1:]]
    return [
        (one, Span(begin, max(begin, min(end, next_))))
        for (one, begin, end), next_ in zip(timed, [*ends, timed[-1][2]], strict=True)
    ]


def _night(worker: str, spans: list[tuple[Told, Span]], finest: timedelta) -> Night:
    sidecars = [one.sidecar for one, _ in spans if one.sidecar]
    parts = [part for one, span in spans for part in _parts(one, span)]
    gaps = [Span(before.end, after.begin) for (_, before), (_, after) in pairwise(spans)]
    return Night(
        worker=worker,
        host=host_of(sidecars[0]) if sidecars else "",
        chip=sidecars[0].host.get("chip", "") if sidecars else "",
        span=Span(spans[0][1].begin, spans[-1][1].end),
        pictures=sum(one.state == "finished" for one, _ in spans),
        failed=sum(one.state == "failed" for one, _ in spans),
        busy=sum(span.seconds for _, span in spans),
        loading=sum(part.span.seconds for part in parts if part.what == "load"),
        gaps=tuple(gap for gap in gaps if gap.seconds >= SHORTEST),
        stretches=tuple(_joined(parts, finest)),
    )


def _parts(one: Told, span: Span) -> Iterator[Stretch]:
    """A job's load, which comes first, and its rendering."""
    if one.state == "failed":
        yield Stretch("failed", span, 1)
        return
    load = one.sidecar.timings.load if one.sidecar else 0.0
    middle = min(span.begin + timedelta(seconds=load), span.end)
    if load:
        yield Stretch("load", Span(span.begin, middle), 0)
    yield Stretch("render", Span(middle, span.end), 1)


def _joined(parts: list[Stretch], finest: timedelta) -> Iterator[Stretch]:
    """Neighbours of one kind together, where no gap between them could be seen."""
    last: Stretch | None = None
    for part in parts:
        if last and last.what == part.what and part.span.begin - last.span.end < finest:
            last = Stretch(last.what, Span(last.span.begin, part.span.end), last.jobs + part.jobs)
            continue
        if last:
            yield last
        last = part
    if last:
        yield last
