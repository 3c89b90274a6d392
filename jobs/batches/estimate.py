"""How long jobs will take, by what finished of late on the workers that live, and how much they fill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

from pixelkiln.jobs.batches.forecast import Work
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.farm import Farm
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.spec import RenderSpec

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln

LOOKED_AT = 50  # jobs of each kind that finished last
WEIGHED = 8  # of these, pictures whose size in bytes is asked for
BEYOND = 3.1  # bytes of a PNG for each pixel, at most


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a batch may take; what is not known is left out."""

    hours: float | None = None  # until all are rendered, if living workers render nothing else
    unknown: tuple[str, ...] = ()  # kinds of which no living worker finished any of late
    unserved: tuple[str, ...] = ()  # kinds that no living worker serves
    waiting: int = 0  # jobs that wait already in lanes of these kinds
    space: int = 0  # bytes of the pictures
    measured: bool = False  # whether by pictures of late, else it is the most they can be
    workers: tuple[str, ...] = ()  # the living ones that serve any of these kinds

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def estimate(kiln: Kiln, specs: Sequence[RenderSpec]) -> Estimate:
    """What these jobs may take. Raises NotReadyError where Redis does not answer."""
    farm = kiln.farm()
    work: dict[str, float] = defaultdict(float)
    for one in (Work.of(spec.wire()) for spec in specs):
        work[one.kind] += one.amount
    finished = {kind: list(_finished(kiln, farm, kind)) for kind in work}
    speeds = {kind: _speeds(done) for kind, done in finished.items()}
    busy: dict[str, float] = defaultdict(float)  # seconds, by worker
    unknown, unserved, there = [], [], set()
    for kind, amount in sorted(work.items()):
        serving = [one.name for one in farm.workers if not one.gone and kind in one.serves]
        there.update(serving)
        rates = {name: speeds[kind][name] for name in serving if name in speeds[kind]}
        if not serving:
            unserved.append(kind)
        elif not rates:
            unknown.append(kind)
        else:
            usual = median(rates.values())  # of one that has finished none yet
            rates = {name: rates.get(name, usual) for name in serving}
            for name in rates:
                busy[name] += amount / sum(rates.values())
    pixels = sum(spec.width * spec.height for spec in specs)
    weight = _weight(kiln, [one for done in finished.values() for one in done])
    return Estimate(
        hours=None if unknown or unserved or not busy else max(busy.values()) / 3600,
        unknown=tuple(unknown),
        unserved=tuple(unserved),
        waiting=sum(lane.queued for lane in farm.lanes if _kind_of(lane.lane) in work),
        space=int(pixels * (weight or BEYOND)),
        measured=weight is not None,
        workers=tuple(sorted(there)),
    )


def speeds(kiln: Kiln, farm: Farm, kinds: Iterable[str]) -> dict[str, dict[str, float]]:
    """Work in a second, by kind and worker: as workers tell it, else by what finished of late."""
    found = {}
    for kind in kinds:
        told = {worker.name: worker.speeds[kind] for worker in farm.workers if kind in worker.speeds}
        found[kind] = told or _speeds(_finished(kiln, farm, kind))
    return found


def _kind(spec: RenderSpec) -> str:
    return f"{spec.model}:{spec.quantization}"


def _kind_of(lane: str) -> str:
    parsed = Lane.parse(lane)
    return parsed.kind if parsed else ""


def _finished(kiln: Kiln, farm: Farm, kind: str) -> Iterator[tuple[JobStatus, RenderSpec]]:
    """The jobs of a kind that finished last, as far as Redis remembers them."""
    lanes = [lane.lane for lane in farm.lanes if lane.finished and _kind_of(lane.lane) == kind]
    ids = kiln.queue.finished(lanes[:LOOKED_AT], LOOKED_AT)
    specs = kiln.queue.specs(ids)
    for job_id, status in kiln.statuses(ids).items():
        spec = specs.get(job_id)
        if status is not None and status.state == "finished" and spec is not None and _kind(spec) == kind:
            yield status, spec


def _speeds(done: Iterable[tuple[JobStatus, RenderSpec]]) -> dict[str, float]:
    """Work in a second, by worker: the median of its jobs."""
    found: dict[str, list[float]] = defaultdict(list)
    for status, spec in done:
        try:
            taken = datetime.fromisoformat(status.ended_at) - datetime.fromisoformat(status.started_at)
        except (ValueError, TypeError):  # strangers may have written it
            continue
        if taken.total_seconds() > 0:
            found[status.worker].append(Work.of(spec.wire()).amount / taken.total_seconds())
    return {worker: median(speeds) for worker, speeds in found.items()}


def _weight(kiln: Kiln, done: Sequence[tuple[JobStatus, RenderSpec]]) -> float | None:
    """Bytes for each pixel of this client's pictures of late; None where none can be asked for."""
    own = [(one.result.png, spec) for one, spec in done if one.result and spec.client == kiln.settings.client]
    found = []
    try:
        for key, spec in own[:WEIGHED]:
            if stored := kiln.bucket.head(key):
                found.append(stored.size / (spec.width * spec.height))
    except NotReadyError:
        return None
    return sum(found) / len(found) if found else None
