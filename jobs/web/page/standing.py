"""How batches fare, looked at now and then: counting ten thousand pictures takes its time."""

from __future__ import annotations

from typing import NamedTuple

from pixelkiln.jobs.batches.standing import BatchStatus, counted
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import NoSuchJobError
from pixelkiln.jobs.web.lately import Lately

# Seconds for which is good: a count of a batch under way, what Redis says of another, and a count of that
# while Redis says the same.
FRESH, FRESH_ENDED, KEPT = 5.0, 60.0, 3600.0


class _Queued(NamedTuple):
    """What Redis alone says of a batch: little is asked for that."""

    open: bool  # not all have ended
    mark: int  # changes with it


class Standings:
    """What was counted, for a while; safe to share between threads. A batch that is counted delays no other.

    The bucket is asked for what Redis has forgotten, in two requests a picture, so that is kept for long.
    """

    def __init__(self) -> None:
        self._queued, self._counts = Lately[_Queued | None](), Lately[BatchStatus | None]()

    def of(self, kiln: Kiln, most: int, *, under_way: bool = False) -> list[BatchStatus]:
        """A client's batches, the newest first; `under_way`: of these, no others. Raises NotReadyError."""
        client, found = kiln.settings.client, []
        for name in list(kiln.queue.batches(client))[:most]:
            queued = self._queued.get((client, name), _fresh, lambda name=name: _look(kiln, name))  # type: ignore[misc]
            if queued is not None and (queued.open or not under_way):
                fresh = FRESH if queued.open else KEPT
                key = client, name, queued.mark
                found.append(self._counts.get(key, fresh, lambda name=name: _count(kiln, name)))  # type: ignore[misc]
        return [one for one in found if one is not None]


def _fresh(queued: _Queued | None) -> float:
    return FRESH_ENDED if queued is not None and not queued.open else FRESH


def _look(kiln: Kiln, name: str) -> _Queued | None:
    try:
        batch = kiln.open_batch(name)
    except NoSuchJobError:  # it was pruned
        return None
    standing = kiln.queue.standing(batch.ids, kiln.settings.client)
    counts = counted(standing.values())
    listed = tuple(one.listed for one in batch.entries)
    mark = hash((batch.manifest.paused, listed, tuple(standing.items())))
    return _Queued(counts["queued"] + counts["started"] > 0, mark)


def _count(kiln: Kiln, name: str) -> BatchStatus | None:
    try:
        return kiln.open_batch(name).status()
    except NoSuchJobError:
        return None
