"""Answers in parts, whose parts come late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

from anyio.to_thread import current_default_thread_limiter

from pixelkiln.jobs.web.parts import begun


def test_a_part_that_does_not_come_takes_no_request_its_thread() -> None:
    asked, come = threading.Event(), threading.Event()

    def parts() -> Iterator[bytes]:
        yield b"a"
        asked.set()
        come.wait(30)
        yield b"b"

    async def act() -> list[bytes]:
        body = begun(parts())
        found = [await anext(body)]
        late = asyncio.ensure_future(anext(body))
        await asyncio.to_thread(asked.wait, 30)
        assert current_default_thread_limiter().borrowed_tokens == 0
        come.set()
        return [*found, await late, *[one async for one in body]]

    assert asyncio.run(act()) == [b"a", b"b"]
