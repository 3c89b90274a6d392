"""Following jobs until they have ended, thousands of them too, by threads or by asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pixelkiln.jobs.errors import NoSuchJobError, NotReadyError
from pixelkiln.jobs.queue.queue import Standing
from pixelkiln.jobs.queue.status import JobStatus

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln


def changes(
    kiln: Kiln, job_ids: Sequence[str], interval: float, sleep: Callable[[float], None]
) -> Iterator[JobStatus]:
    """Yield each job's status whenever it changes, until all have ended: see Kiln.watch."""
    for found in _looks(kiln, job_ids, interval):
        if isinstance(found, float):
            sleep(found)
        else:
            yield found


async def changes_async(
    kiln: Kiln,
    job_ids: Callable[[], Sequence[str]],
    interval: float,
    sleep: Callable[[float], Awaitable[None]],
) -> AsyncIterator[JobStatus]:
    """The same; what is asked of Redis, `job_ids` too, is asked on another thread.

    Who is cancelled leaves at once: a question that is under way ends by itself, and is the last.
    """
    looks = _looks(kiln, await asyncio.to_thread(job_ids), interval)
    while (found := await asyncio.to_thread(next, looks, None)) is not None:
        if isinstance(found, float):
            await sleep(found)
        else:
            yield found


def _looks(kiln: Kiln, job_ids: Sequence[str], interval: float) -> Iterator[JobStatus | float]:
    """Statuses that changed, and between two looks how many seconds are to be waited.

    All are asked for in few words; what moves, or has moved since, in full.
    """
    last: dict[str, JobStatus] = {}
    stood: dict[str, Standing | None] = {}
    open_ids = list(dict.fromkeys(job_ids))
    while open_ids:
        try:
            stands = kiln.queue.standing(open_ids)
            moved = [
                one
                for one, now in stands.items()
                if now is None or now.state == "started" or one not in stood or stood[one] != now
            ]
            found = kiln.statuses(moved)
        except NotReadyError:
            if not last:
                raise
            yield 1.0
            continue
        stood |= stands
        for job_id, status in found.items():
            if status is None:
                raise NoSuchJobError(f"no job {job_id} in the queue or the bucket")
            if last.get(job_id) != status:
                last[job_id] = status
                yield status
        open_ids = [job_id for job_id in open_ids if not last[job_id].ended]
        if open_ids:
            yield float(interval)
