"""The relay before S3: one request and its answer to a connection, so that either can be spoilt."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from tests.chaos.relay import Relay, Target

Spoil = Literal[
    "answer",  # `value` is the status: answered here, the server sees nothing
    "reset",  # the connection is reset when half of the request's body has come
    "lose",  # carried out, the reply lost
    "late",  # the connection is reset at once, and the request carried out `value` seconds later
    "corrupt-request",  # a byte of the body is another one
    "corrupt-reply",
    "half-reply",  # the connection is reset in the middle of the answer
    "garbage",  # answered here with what is no HTTP body of S3's
    "slow",  # carried out, and answered `value` seconds late, without an error
    "no-etag",  # carried out, and answered without that header
    "no-length",  # the same; the answer ends with the connection
    "bad-date",  # the same, when it was last modified being no date
    "redirect",  # answered here with 307, to the same path; `times` 0 makes it endless
    "odd-error",  # answered here with an error that has no word for itself
]

_CODES = {
    307: "TemporaryRedirect",
    500: "InternalError",
    503: "SlowDown",
    412: "PreconditionFailed",
    403: "AccessDenied",
}
_HEADERS: dict[str, tuple[bytes, list[bytes]]] = {  # what goes, and what comes instead
    "no-etag": (b"etag", []),
    "no-length": (b"content-length", []),
    "bad-date": (b"last-modified", [b"Last-Modified: yesterday"]),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the next requests of a method and a kind of key."""

    spoil: Spoil
    value: float = 0
    method: str = ""  # any
    key: str = ""  # how its path ends
    times: int = 1  # how many; 0: all, until `restore`


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, read as far as its head."""

    method: str
    path: str
    headers: list[tuple[str, str]]

    @property
    def length(self) -> int:
        """Bytes of its body."""
        return next((int(v) for k, v in self.headers if k.lower() == "content-length"), 0)

    @property
    def asks_first(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        return any(k.lower() == "expect" for k, _ in self.headers)

    def head(self) -> bytes:
        """As it is passed on: for this exchange only."""
        kept = [f"{k}: {v}" for k, v in self.headers if k.lower() not in {"expect", "connection"}]
        return "\r\n".join(
            [f"{self.method} {self.path} HTTP/1.1", *kept, "Connection: close", "", ""]
        ).encode("latin-1")


class HttpRelay(Relay):
    """Passes S3's requests on."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._faults: list[Fault] = []
        self._late: set[asyncio.Task[None]] = set()
        self.spoilt = 0  # how many were hit
        self.crawl = 0.0  # seconds that every PUT waits

    def spoil(self, *faults: Fault) -> None:
        """Do this to the next requests that fit."""
        self._loop.call_soon_threadsafe(self._faults.extend, faults)

    def restore(self) -> None:
        """End all faults; requests that are late still come."""
        self.crawl = 0.0
        self._loop.call_soon_threadsafe(self._faults.clear)
        super().restore()

    async def relay(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Serve one connection: one exchange."""
        request = await _read(client)
        await self.passing()
        if self.crawl and request.method == "PUT":
            await asyncio.sleep(self.crawl)
        fault = self._match(request)
        if request.asks_first:
            back.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault is not None and fault.spoil == "reset":
            await client.readexactly(request.length // 2)
            back.transport.abort()
            return
        body = await client.readexactly(request.length)
        if fault is None:
            await self._answer(back, await self._exchange(request, body))
        else:
            await self._spoil(fault, request, body, back)

    async def _spoil(self, fault: Fault, request: Request, body: bytes, back: asyncio.StreamWriter) -> None:
        match fault.spoil:
            case "answer":
                await self._answer(back, _refusal(int(fault.value), request.method))
            case "garbage":
                await self._answer(back, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>\0\xff\x80")
            case "late":
                back.transport.abort()
                task = asyncio.ensure_future(self._later(fault.value, request, body))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
            case "lose":
                await self._exchange(request, body)
                back.transport.abort()
            case "corrupt-request":
                await self._answer(back, await self._exchange(request, _flip(body)))
            case "corrupt-reply":
                head, gap, content = (await self._exchange(request, body)).partition(b"\r\n\r\n")
                await self._answer(back, head + gap + _flip(content))
            case "half-reply":
                answer = await self._exchange(request, body)
                await self._answer(back, answer[: len(answer) // 2])
                back.transport.abort()
            case "slow":
                answer = await self._exchange(request, body)
                await asyncio.sleep(fault.value)
                await self._answer(back, answer)
            case "no-etag" | "no-length" | "bad-date":
                await self._answer(back, _without(fault.spoil, await self._exchange(request, body)))
            case "redirect":
                await self._answer(back, _refusal(307, request.method, f"Location: {request.path}\r\n"))
            case "odd-error":
                await self._answer(back, _refusal(400, request.method, code="<Why/>"))

    async def _later(self, seconds: float, request: Request, body: bytes) -> None:
        await asyncio.sleep(seconds)
        with suppress(OSError):
            await self._exchange(request, body)

    async def _exchange(self, request: Request, body: bytes) -> bytes:
        answers, server = await self.connect()
        try:
            server.write(request.head() + body)
            await server.drain()
            return await answers.read(-1)
        finally:
            self.forget(server)

    async def _answer(self, back: asyncio.StreamWriter, answer: bytes) -> None:
        await self.passing()
        back.write(answer)
        await back.drain()

    def _match(self, request: Request) -> Fault | None:
        for fault in self._faults:
            if fault.method in {"", request.method} and request.path.partition("?")[0].endswith(fault.key):
                at = self._faults.index(fault)
                left = [] if fault.times == 1 else [replace(fault, times=max(0, fault.times - 1))]
                self._faults[at : at + 1] = left
                self.spoilt += 1
                return fault
        return None


async def _read(client: asyncio.StreamReader) -> Request:
    lines = (await client.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    pairs = [line.partition(":") for line in lines[1:] if line]
    return Request(method, path, [(name, value.strip()) for name, _, value in pairs])


def _refusal(status: int, method: str, headers: str = "", code: str = "") -> bytes:
    name = _CODES.get(status, "InternalError")
    error = f"<Error><Code>{code or name}</Code><Message>chaos</Message></Error>".encode()
    body = b"" if method == "HEAD" else error
    return f"HTTP/1.1 {status} {name}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _without(what: str, answer: bytes) -> bytes:
    """An answer that lacks a header of S3's, or has a wrong one in its place."""
    head, gap, body = answer.partition(b"\r\n\r\n")
    name, instead = _HEADERS[what]
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(name + b":")]
    return b"\r\n".join([*lines, *instead]) + gap + body


def _flip(body: bytes) -> bytes:
    """`body` with its middle byte changed."""
    if not body:
        return body
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0x55]) + body[middle + 1 :]
