"""Who reads the bucket: so many at once and so many of each, so that one that hangs stops nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Annotated, TypeVar
from weakref import WeakValueDictionary

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.web.problems import AGAIN, ProblemError
from pixelkiln.jobs.web.who import Caller, Farm, Known

T = TypeVar("T")

READERS, EACH = 28, 8  # requests that may read, and of one token: AnyIO has 40 threads for all requests
PATIENCE = 3.0  # seconds that one waits for its turn, in no thread


class Readers:
    """Places for those who read. For one event loop."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(READERS)
        self._own = WeakValueDictionary[str, asyncio.Semaphore]()  # of each token that reads or waits

    @asynccontextmanager
    async def place(self, who: str) -> AsyncIterator[None]:
        """One, while the block lasts. Raises ProblemError where none is left in time."""
        own = self._own.setdefault(who, asyncio.Semaphore(EACH))
        async with AsyncExitStack() as taken:
            try:
                async with asyncio.timeout(PATIENCE):
                    await taken.enter_async_context(own)
                    await taken.enter_async_context(self._places)
            except TimeoutError:
                told = "the bucket does not answer in time; try again later"
                raise ProblemError(503, told, headers={"Retry-After": f"{AGAIN}"}) from None
            yield


async def reading(request: Request, caller: Caller, act: Callable[[], T], does: bool = True) -> T:
    """Do what reads the bucket, if it `does`, in a thread. Raises ProblemError."""
    readers: Readers = request.app.state.readers
    async with readers.place(caller.id) if does else nullcontext():
        return await run_in_threadpool(act)


async def _with_bucket(request: Request, kiln: Farm, caller: Known) -> AsyncIterator[Kiln]:
    readers: Readers = request.app.state.readers
    async with readers.place(caller.id):
        yield kiln


async def _or_bucket(request: Request, kiln: Farm, caller: Known) -> AsyncIterator[Kiln]:
    readers: Readers = request.app.state.readers
    job_id = request.path_params.get("id") or request.query_params.get("from", "")
    forgotten = False
    if JOB_ID.fullmatch(job_id):
        forgotten = (await run_in_threadpool(kiln.queue.statuses, [job_id]))[job_id] is None
    does = forgotten or any(request.query_params.get(name) for name in ("batch", "suspicious"))
    async with readers.place(caller.id) if does else nullcontext():
        yield kiln


# The farm, as Farm has it, for what reads the bucket until its answer begins; and for what does so only where
# Redis has forgotten the job that is named, or by certain filters.
WithBucket = Annotated[Kiln, Depends(_with_bucket, scope="function")]
OrBucket = Annotated[Kiln, Depends(_or_bucket, scope="function")]
