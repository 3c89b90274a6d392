"""Answers that are sent in parts, as they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import chain

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

AT_ONCE = 16  # threads that make the next part of an answer: not those which all requests share

_threads = RunVar[CapacityLimiter]("threads")


def begun(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same, its first part made: what fails until then fails before the answer begins."""
    return _made(chain([next(parts, b"")], parts))


async def _made(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    threads = _threads.get(None)
    if threads is None:
        _threads.set(threads := CapacityLimiter(AT_ONCE))
    while (part := await anyio.to_thread.run_sync(next, parts, None, limiter=threads)) is not None:
        yield part
