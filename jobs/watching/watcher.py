"""Looking at the farm again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.farm import Farm
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.watching.ledgers import Ledgers
from pixelkiln.jobs.watching.snapshot import Snapshot, by_interest, told_job

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln

WORKERS = 50  # whose jobs are looked at in one look
FAILURES = 20  # that are told, the newest ones
STALE = 30.0  # seconds after which failures are listed anew, whatever the lanes count
PROMPT = 200  # characters that are kept of a prompt
REMEMBERED = 1_000  # prompts


class Watcher:
    """One who watches a farm. What a look asks of Redis has a bound (docs/watching.md).

    >>> watcher = Watcher(kiln)
    >>> watcher.look().batches
    """

    def __init__(self, kiln: Kiln, *, previews: int = 0, clock: Callable[[], float] = time.time) -> None:
        """`previews`: of how many jobs that are being rendered pictures are read."""
        self._kiln = kiln
        self._previews = previews
        self._clock = clock
        self._ledgers = Ledgers(kiln.queue, kiln.settings.client)
        self._prompts: dict[str, str] = {}
        self._failed: tuple[JobStatus, ...] = ()
        self._failed_by: tuple[int, ...] | None = None  # the lanes' counts when they were listed
        self._failed_at = 0.0

    def look(self) -> Snapshot:
        """The farm now. Raises NotReadyError; the next look goes on where this one was."""
        farm = self._kiln.farm()
        batches = self._ledgers.look(farm)
        failures = self._failures(farm)
        held = self._held([one.name for one in by_interest(farm.workers)[:WORKERS]])
        lost = [job for one in by_interest(farm.workers)[:WORKERS] if one.gone and (job := told_job(one))]
        named = [*(one.id for some in held.values() for one in some), *(one.id for one in failures), *lost]
        self._learn(named)
        rendered = [one for some in held.values() for one in some if one.phase == "rendering"]
        shown = {one.id: one.client for one in rendered[: self._previews]}
        return Snapshot(
            at=self._clock(),
            farm=farm,
            batches=batches,
            unread=self._ledgers.unread,
            failures=failures,
            held=held,
            places=self._ledgers.places(named),
            prompts={one: self._prompts[one] for one in named if one in self._prompts},
            previews=self._kiln.queue.previews(shown) if shown else {},
        )

    def _held(self, workers: list[str]) -> dict[str, tuple[JobStatus, ...]]:
        """What these workers hold, those jobs first that are not delivered yet."""
        ids = self._kiln.queue.held_by(workers) if workers else {}
        every = [one for some in ids.values() for one in some]
        found = self._kiln.queue.statuses(every) if every else {}
        held = {}
        for worker, some in ids.items():
            theirs = [
                now for one in some if (now := found[one]) and (now.state, now.worker) == ("started", worker)
            ]
            held[worker] = tuple(sorted(theirs, key=lambda now: (now.phase == "delivering", now.started_at)))
        return held

    def _failures(self, farm: Farm) -> tuple[JobStatus, ...]:
        """What failed last; listed anew where a lane counts others than before, for it is a look at all."""
        counts = tuple(lane.failed for lane in farm.lanes)
        now = self._clock()
        if counts != self._failed_by or not 0 <= now - self._failed_at < STALE:
            newest = self._kiln.jobs(state="failed", client=None, limit=FAILURES) if any(counts) else []
            self._failed, self._failed_by, self._failed_at = tuple(newest), counts, now
        return self._failed

    def _learn(self, job_ids: list[str]) -> None:
        """Read the prompts that are not known yet."""
        new = [one for one in job_ids if one not in self._prompts]
        for job_id, spec in (self._kiln.queue.specs(new) if new else {}).items():
            self._prompts[job_id] = (
                plain(" ".join(spec.prompt[: 4 * PROMPT].split()))[:PROMPT] if spec else ""
            )
        for job_id in list(self._prompts)[: max(0, len(self._prompts) - REMEMBERED)]:
            del self._prompts[job_id]
