"""uvicorn, set up against those who are slow or many: where it listens, and how it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.jobs.web.app import build
from pixelkiln.jobs.web.problems import AGAIN, MEDIA, Problem, answer
from pixelkiln.jobs.web.tokens import FILE, Tokens
from pixelkiln.jobs.web.who import LOOPBACK

PORTS = 20  # that are tried where another may be taken
CONNECTIONS = 1500  # at once; who comes then is told to try again
FILES = 4 * CONNECTIONS  # that this process may have open, where it may
STALLED = 60.0  # seconds that nobody may read what is sent
HEAD = 10.0  # seconds that a request's line and headers may take
IDLE = 15  # seconds that a connection may wait for its next request
STARTING = 30.0  # seconds that it may take until it listens
ANSWER = 5.0  # seconds that the bucket has to answer a request, twice: who asks here does not wait for it
ENDING = 5  # seconds that what is under way has when the server ends


class Impatient(H11Protocol):
    """uvicorn waits for a request's head as long as it takes; this does not."""

    _head: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count; one too many hears nothing but that."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self.app = _full
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """What comes first after a rest begins a head; one that is whole is waited for no more."""
        before = self.cycle
        if self._head is None and (before is None or before.response_complete):
            self._await_head()
        super().data_received(data)
        if self.cycle is not before:
            self._came()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count no more."""
        self._came()
        self._read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The other side does not read."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._read()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so in the form of all other refusals."""
        problem = Problem(title=HTTPStatus(400).phrase, status=400, detail=msg)
        body = problem.model_dump_json(exclude_none=True).encode()
        headers = [
            ("Content-Type", MEDIA),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
        begin = h11.Response(status_code=400, headers=headers, reason=HTTPStatus(400).phrase)
        events = (begin, h11.Data(data=body), h11.EndOfMessage())
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _read(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _await_head(self) -> None:
        self._head = self.loop.call_later(HEAD, self.transport.close)

    def _came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class Server(uvicorn.Server):
    """A server of this process; tells once it listens."""

    def __init__(
        self, config: uvicorn.Config, listening: Callable[[], None], ending: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._listening, self._ending = listening, ending

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """To be told to end is no failure: the signal is not raised again."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            self._listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what would go on by itself, then wait for the rest."""
        self._ending()
        await super().shutdown(sockets)


def server(
    settings: Settings,
    bound: socket.socket,
    *,
    kiln: Kiln | None = None,
    listening: Callable[[], None] = lambda: None,
) -> Server:
    """The server on a socket that is bound: run it with `server.run([bound])`."""
    hosts = LOOPBACK | {bound.getsockname()[0]} if is_loopback(bound) else frozenset[str]()
    bucket = None if kiln else Bucket.open(settings, attempts=2, patience=ANSWER)
    app = build(kiln or Kiln(settings, bucket=bucket), tokens_of(settings), hosts)
    tls: dict[str, Any] = {}
    if settings.serve_cert is not None:
        check_tls(settings.serve_cert, settings.serve_key)
        tls = {"ssl_certfile": settings.serve_cert, "ssl_keyfile": settings.serve_key}
    config = uvicorn.Config(
        app,
        http=Impatient,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,  # of a proxy on this machine, so that addresses are right behind it
        forwarded_allow_ips="127.0.0.1,::1",
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=ENDING,
        h11_max_incomplete_event_size=32 * 1024,
        **tls,
    )
    _allow_files()
    return Server(config, listening, app.state.streams.close)


@contextmanager
def beside(settings: Settings, kiln: Kiln | None = None) -> Iterator[str]:
    """A server for this machine in a thread of this process, while the block lasts: where it is.

    On the port of the settings, or one after it that is free.
    """
    settings = settings.model_copy(update={"serve_cert": None})
    bound = bind("127.0.0.1", settings.serve_port, others=True)
    ready = threading.Event()
    try:
        running = server(settings, bound, kiln=kiln, listening=ready.set)
    except BaseException:
        bound.close()
        raise
    thread = threading.Thread(target=running.run, args=([bound],), name="serve", daemon=True)
    thread.start()
    try:
        if not ready.wait(STARTING):
            raise NotReadyError(f"the server on {address(bound)} does not start; try --no-serve")
        yield address(bound)
    finally:
        running.should_exit = True
        thread.join()


def tokens_of(settings: Settings) -> Tokens:
    """The tokens of the file that is named, else of the folder of this farm."""
    return Tokens(settings.tokens or settings.home / FILE)


def bind(host: str, port: int, *, others: bool = False) -> socket.socket:
    """A socket on `port`, 0 for any; `others`: on the next one that is free. Raises NotReadyError."""
    for number in range(port, port + PORTS if others and port else port + 1):
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            bound = socket.socket(family, kind)
        except (OSError, UnicodeError) as error:
            raise UsageError(f"--host: {host[:80]!r} is no address of this machine ({error})") from None
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(512)
        except OSError as error:
            bound.close()
            failed = error
            continue
        bound.setblocking(False)
        return bound
    raise NotReadyError(f"{host}:{port} cannot be listened on ({failed.strerror}); name another --port")


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def address(bound: socket.socket, *, tls: bool = False) -> str:
    """Where a browser finds it."""
    host, port = bound.getsockname()[:2]
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def check_tls(cert: Path, key: Path | None) -> None:
    """Raise UsageError where these are no certificate and its key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except OSError as error:  # ssl's own among them
        raise UsageError(f"--cert, --key: {error.strerror or error}") from None


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell one too many; uvicorn's own answer is plain text."""
    headers = {"Retry-After": str(AGAIN), "X-Content-Type-Options": "nosniff", "Connection": "close"}
    told = answer(scope, 503, "too many are connected; try again later", headers=headers)
    await told(scope, receive, send)


def _allow_files() -> None:
    """A connection is an open file, of which macOS allows 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
