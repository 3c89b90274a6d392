"""A TCP relay on a loopback port that fails on command. Its switches may be thrown from any thread."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

HOST = "127.0.0.1"
Target = Callable[[], int]  # the port behind the relay, asked for each connection: a restart may move it


class Relay(ABC):
    """Passes connections on to a server until told otherwise."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0
        self.delay = 0.0  # seconds every piece of data waits

    @abstractmethod
    async def relay(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Serve one connection; the caller closes `back`."""

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        """End every connection and the thread."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def refuse(self) -> None:
        """Refuse new connections and cut those that are open."""
        self._run(self._refuse())

    def hold(self) -> None:
        """A black hole: data is accepted and goes nowhere until `restore`, which lets it through late."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def cut(self) -> None:
        """Reset the open connections."""
        self._run(self._cut())

    def restore(self) -> None:
        """End the lasting faults: refusing, holding, delaying."""
        self.delay = 0.0
        self._run(self._restore())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _restore(self) -> None:
        self._flowing.set()
        if self._server is None:
            await self._listen()

    async def _close(self) -> None:
        await self._refuse()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(back)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.relay(client, back)
        finally:
            self._writers.discard(back)
            self._tasks.discard(task)
            back.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the server behind."""
        reader, writer = await asyncio.open_connection(HOST, self._target(), limit=2**24)
        self._writers.add(writer)
        return reader, writer

    def forget(self, writer: asyncio.StreamWriter) -> None:
        """Close a connection of `connect`."""
        self._writers.discard(writer)
        writer.close()

    async def passing(self) -> None:
        """Return when data may go on."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._flowing.wait()
