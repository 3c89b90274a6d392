"""Bodies too large for memory: received into files, and looked at a few at a time."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

T = TypeVar("T")

AT_ONCE = 2  # that are read, decoded or checked: each may hold hundreds of MB


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Path]:
    """The body of a request as a file, gone afterwards. Raises ProblemError as its bounds do."""
    with tempfile.TemporaryDirectory(prefix="kiln-serve-") as folder:
        path = Path(folder) / "body"
        async with await anyio.open_file(path, "wb") as file:
            async for part in request.stream():
                await file.write(part)
        yield path


async def heavily(request: Request, act: Callable[[], T]) -> T:
    """Do what takes much memory or time, in a thread and after others of its kind."""
    few: anyio.CapacityLimiter = request.app.state.few
    return await anyio.to_thread.run_sync(act, limiter=few)
