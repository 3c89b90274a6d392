"""Bodies: forms, and those too large for memory, received into files and looked at a few at a time."""

from __future__ import annotations

import sys
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

from pixelkiln.jobs.web.limits import Places
from pixelkiln.jobs.web.problems import AGAIN, ProblemError

T = TypeVar("T")

AT_ONCE = {"bodies": 2, "reports": 1}  # that are read, decoded or written: each may hold hundreds of MB
EACH = {"bodies": 8, "reports": 2}  # of one token that are, or wait: a page shows several pictures at once


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
    """Do what takes much memory or time, in a thread and after others of its kind.

    Raises ProblemError where as many of the caller's wait as may, and once the caller has left.
    """
    few, places = request.app.state.few[among]
    if (leave := places.take(request.scope["caller"].id)) is None:
        raise ProblemError(429, f"too many {among} of yours wait now", headers={"Retry-After": f"{AGAIN}"})
    try:
        async with few:
            if await request.is_disconnected():
                raise ProblemError(400, "who asked has left")
            return await anyio.to_thread.run_sync(act, limiter=anyio.CapacityLimiter(1))
    finally:
        leave()


def fewer() -> dict[str, tuple[anyio.CapacityLimiter, Places]]:
    """By kind: the turns of those that are done at once, and the places of those who wait, too."""
    return {
        kind: (anyio.CapacityLimiter(most), Places(sys.maxsize, EACH[kind])) for kind, most in AT_ONCE.items()
    }
