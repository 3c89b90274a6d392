"""Kiln over a farm in memory, whose worker works when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pydantic import SecretStr

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.control.orders import admin_key
from pixelkiln.jobs.following import changes, changes_async
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.testing.bucket import MemoryBucket
from pixelkiln.jobs.testing.queue import MemoryQueue

LOOKS = 100  # in vain, at jobs that are waited for


class StuckError(AssertionError):
    """A test waits for jobs that nothing will ever end."""


class FakeKiln(Kiln):
    """A Kiln that a program's tests use in place of the real one: no Redis, no bucket, no waiting.

    Specs, ids, clients and errors are as with the real one, and so is all that it says of jobs. Its farm has
    one worker, which serves every model and draws a gradient of the right size; it works while someone waits
    (`wait`, `watch`), or when told to (`step`, `work`). Jobs of one priority are taken in the order in which
    they were submitted. No environment variable and no file is read. For one thread.

    >>> kiln = FakeKiln()
    >>> kiln.next_fails("out of memory")
    >>> job = kiln.submit(prompt="a lighthouse at dusk", model="demo")
    >>> kiln.wait([job.id])[0].error
    'out of memory'
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """A farm of its own; `settings` say whose jobs these are."""
        if settings is None:  # constructed, so that neither KILN_* nor kiln.toml is read
            settings = Settings.model_construct(admin_key=SecretStr("the key of the farm in memory"))
        self._memory = MemoryBucket()
        self._farm = MemoryQueue(self._memory, admin_key(settings))
        super().__init__(settings, queue=self._farm, bucket=self._memory)

    def next_fails(self, error: str = "it failed, as the test wants it") -> None:
        """Let the next job that is submitted end as failed, for that reason."""
        self._farm.plan = replace(self._farm.plan, error=error)

    def next_waits(self) -> None:
        """Let the next job that is submitted stay queued, until `release`."""
        self._farm.plan = replace(self._farm.plan, held=True)

    def next_takes(self, steps: int) -> None:
        """Let the next job that is submitted take so many steps."""
        self._farm.plan = replace(self._farm.plan, steps=steps)

    def release(self, job_id: str | None = None) -> None:
        """Let a job that `next_waits` held be taken; all of them where none is named."""
        self._farm.release(job_id)

    def step(self) -> bool:
        """Let the worker do one thing: take a job, or bring it a step on. False where it cannot."""
        return self._farm.step()

    def work(self) -> None:
        """Let the worker work until there is nothing left that it can do."""
        while self.step():
            pass

    def start_worker(self) -> None:
        """Let a worker come, where `drain` sent it away."""
        self._farm.start_worker()

    @contextmanager
    def away(self, *, redis: bool = True, bucket: bool = True) -> Iterator[None]:
        """While the block lasts, Redis and the bucket, or one of them, do not answer."""
        before = self._farm.away, self._memory.away
        self._farm.away, self._memory.away = redis, bucket
        try:
            yield
        finally:
            self._farm.away, self._memory.away = before

    def watch(
        self,
        job_ids: Sequence[str] | None = None,
        *,
        batch: str | None = None,
        interval: float = 0.2,
        sleep: Callable[[float], None] = lambda seconds: None,
    ) -> Iterator[JobStatus]:
        """As Kiln's, but in place of waiting the worker does a step; `sleep` is called before it.

        Raises StuckError where nothing would ever end the jobs.
        """
        followed = self._followed(job_ids, batch)
        work = self._worker(followed)

        def pause(seconds: float) -> None:
            sleep(seconds)  # may release a job, or end an outage
            work()

        return changes(self, followed, interval, pause)

    def awatch(
        self, job_ids: Sequence[str] | None = None, *, batch: str | None = None, interval: float = 0.2
    ) -> AsyncIterator[JobStatus]:
        """As Kiln's; other tasks run between two steps of the worker. Raises as `watch`."""
        followed: list[str] = []
        work = self._worker(followed)

        def named() -> list[str]:
            followed.extend(self._followed(job_ids, batch))
            return followed

        async def pause(seconds: float) -> None:
            await asyncio.sleep(0)
            work()

        return changes_async(self, named, interval, pause)

    def _worker(self, followed: Sequence[str]) -> Callable[[], None]:
        """What lets the worker do a step; raises StuckError where that has been in vain for long."""
        idle = 0

        def work() -> None:
            nonlocal idle
            idle = 0 if self.step() else idle + 1
            if idle > LOOKS:
                left = ", ".join(self._farm.open_of(followed))
                raise StuckError(f"{left}: held, paused, away, or no worker is there to end it")

        return work
