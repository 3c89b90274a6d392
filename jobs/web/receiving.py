"""Bodies: forms, and those too large for memory, received into files and looked at a few at a time."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData

from pixelkiln.jobs.web.problems import ProblemError

T = TypeVar("T")

AT_ONCE = {"bodies": 2, "reports": 1}  # that are read, decoded or written: each may hold hundreds of MB


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Path]:
    """The body of a request as a file, gone afterwards. Raises ProblemError as its bounds do."""
    with tempfile.TemporaryDirectory(prefix="kiln-serve-") as folder:
        path = Path(folder) / "body"
        async with await anyio.open_file(path, "wb") as file:
            async for part in request.stream():
                await file.write(part)
        yield path


async def read_form(request: Request, **bounds: int) -> FormData:
    """The form that a request holds, within Starlette's bounds, to be closed by who asks.

    Raises ProblemError for one that says that it is not in UTF-8, in which browsers send: Python has codecs
    that raise, or make text which no answer can hold.
    """
    _, options = parse_options_header(request.headers.get("content-type"))
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise ProblemError(400, "a form is read as UTF-8; this one says that it is something else")
    return await request.form(**bounds)


async def heavily(request: Request, act: Callable[[], T], among: str = "bodies") -> T:
    """Do what takes much memory or time, in a thread and after others of its kind."""
    few: anyio.CapacityLimiter = request.app.state.few[among]
    return await anyio.to_thread.run_sync(act, limiter=few)
