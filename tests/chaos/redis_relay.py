"""The relay before Redis: can lose the reply of a chosen command, or half of a request."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal

from tests.chaos.relay import Relay, Target

Loss = Literal["reply", "half"]


class RedisRelay(Relay):
    """Passes Redis' protocol on, piece by piece."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._doomed: list[tuple[Loss, bytes]] = []
        self.lost = 0  # how many were hit

    def lose(self, what: Loss, command: bytes) -> None:
        """The next request that holds `command` is carried out but its reply lost, or arrives by half."""
        self._loop.call_soon_threadsafe(self._doomed.append, (what, command))

    async def relay(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        answers, server = await self.connect()
        lost = asyncio.Event()  # set: the next answer is not passed on, and the connection ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(client, server, lost))
                group.create_task(self._replies(answers, back, lost))
        except* (OSError, EOFError):
            pass
        finally:
            back.transport.abort()
            self.forget(server)

    async def _requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while piece := await client.read(2**16):
            await self.passing()
            match = self._match(piece)
            if match == "half":
                server.write(piece[: len(piece) // 2])
                with suppress(OSError):
                    await server.drain()
                break
            if match == "reply":
                lost.set()
            server.write(piece)
            await server.drain()
        raise EOFError

    async def _replies(
        self, answers: asyncio.StreamReader, back: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while piece := await answers.read(2**16):
            await self.passing()
            if lost.is_set():
                break
            back.write(piece)
            await back.drain()
        raise EOFError

    def _match(self, piece: bytes) -> Loss | None:
        for doom in self._doomed:
            if doom[1] in piece:
                self._doomed.remove(doom)
                self.lost += 1
                return doom[0]
        return None
