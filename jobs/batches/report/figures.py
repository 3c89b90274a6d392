"""The numbers of a night: what an image and a step took, what loads did, what memory was held, who waited.

Each group is what one engine at one size and number of steps took on one host: no two others compare.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pixelkiln.jobs.batches.report.facts import Facts, Told
from pixelkiln.jobs.plain import count, plain
from pixelkiln.jobs.sidecar import Sidecar


class Spread(NamedTuple):
    """Some numbers in five: the middle one, the quarters beside it, the ends."""

    least: float
    lower: float  # a quarter lies below
    median: float
    upper: float  # a quarter lies above
    most: float

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Spread | None:
        """Of no numbers there is none."""
        sorted_ = sorted(numbers)
        if not sorted_:
            return None
        if len(sorted_) == 1:
            return cls(*sorted_ * 5)
        lower, median, upper = statistics.quantiles(sorted_, n=4, method="inclusive")
        return cls(sorted_[0], lower, median, upper, sorted_[-1])


@dataclass(frozen=True, slots=True)
class Speed:
    """What pictures of one kind took on one host, those that waited for a load left out where others are."""

    engine: str  # model:quantization
    size: tuple[int, int]  # width, height in pixels
    steps: int  # of a picture
    host: str
    pictures: int
    image: Spread  # seconds of the GPU: prompt, steps and decoding; no load, no delivery
    step: Spread  # seconds of one step


@dataclass(frozen=True, slots=True)
class Held:
    """What an engine took of one host: to be loaded, for its first picture, at most of memory."""

    engine: str
    host: str
    pictures: int
    loads: Spread | None  # seconds; None: it was in memory already
    times: int  # that it was loaded
    first: float | None  # seconds of the GPU for a picture right after a load, without it; the median
    steady: float | None  # for the others
    peak_mlx: int  # bytes
    peak_resident: int  # bytes the process held; other models in memory included
    memory: int  # bytes the machine has; 0 where it did not tell
    swap_ins: int  # bytes read back from swap, all together


def seconds(sidecar: Sidecar) -> float:
    """What a picture took of the GPU, the load apart."""
    timings = sidecar.timings
    return timings.prefix + sum(timings.steps) + timings.decode


def host_of(sidecar: Sidecar) -> str:
    """The name of the machine that rendered it."""
    return plain(sidecar.host.get("name", "")) or "a host without a name"


def speeds(facts: Facts) -> list[Speed]:
    """By engine, size, number of steps and host."""
    groups: dict[tuple[str, tuple[int, int], int, str], list[Sidecar]] = defaultdict(list)
    for engine, one in _rendered(facts.told):
        size = (one.png.width, one.png.height)
        groups[engine, size, len(one.timings.steps), host_of(one)].append(one)
    found = []
    order = engines(facts)
    for key, some in sorted(groups.items(), key=lambda pair: (order.index(pair[0][0]), pair[0])):
        engine, size, steps, host = key
        steady = [one for one in some if not one.timings.load] or some
        image = Spread.of(map(seconds, steady))
        step = Spread.of(taken for one in steady for taken in one.timings.steps)
        if image and step:
            found.append(Speed(engine, size, steps, host, len(some), image, step))
    return found


def held(facts: Facts) -> list[Held]:
    """By engine and host."""
    groups: dict[tuple[str, str], list[Sidecar]] = defaultdict(list)
    for engine, one in _rendered(facts.told):
        groups[engine, host_of(one)].append(one)
    found = []
    order = engines(facts)
    for (engine, host), some in sorted(groups.items(), key=lambda pair: (order.index(pair[0][0]), pair[0])):
        loads = [one.timings.load for one in some if one.timings.load]
        first = Spread.of(seconds(one) for one in some if one.timings.load)
        steady = Spread.of(seconds(one) for one in some if not one.timings.load)
        found.append(
            Held(
                engine=engine,
                host=host,
                pictures=len(some),
                loads=Spread.of(loads),
                times=len(loads),
                first=first.median if first else None,
                steady=steady.median if steady else None,
                peak_mlx=max(one.memory.peak_mlx for one in some),
                peak_resident=max(one.memory.peak_resident for one in some),
                memory=max(count(one.host.get("memory")) for one in some),
                swap_ins=sum(one.memory.swap_ins for one in some),
            )
        )
    return found


def waits(facts: Facts) -> Spread | None:
    """Seconds from submit to the take of those that have finished."""
    return Spread.of(one.timings.queue_wait for _, one in _rendered(facts.told))


def engines(facts: Facts) -> list[str]:
    """Those that the batch asks for, in the order in which it does."""
    return list(dict.fromkeys(one.engine for one in facts.told))


class Beside(NamedTuple):
    """One prompt and seed, as each engine rendered it."""

    title: str  # the label `genre`, where there is one
    prompt: str
    seed: int | None
    by: dict[str, Told]  # engine to its row


def side_by_side(facts: Facts) -> list[Beside]:
    """Prompts and seeds that several engines were asked for; none where most were asked of one alone."""
    groups: dict[tuple[str, int | None], dict[str, Told]] = defaultdict(dict)
    titles: dict[tuple[str, int | None], str] = {}
    for one in facts.told:
        if one.spec.seed is not None:
            key = (one.spec.prompt, one.spec.seed)
            groups[key].setdefault(one.engine, one)
            titles.setdefault(key, one.spec.labels.get("genre", ""))
    several = [key for key, by in groups.items() if len(by) > 1]
    if 2 * len(several) < len(groups):
        return []
    return [Beside(titles[key], *key, groups[key]) for key in several]


def _rendered(told: Sequence[Told]) -> list[tuple[str, Sidecar]]:
    return [(one.engine, one.sidecar) for one in told if one.sidecar is not None]
