"""A few pages over HTTP, for whoever watches: on threads of its own, so that no caller holds the worker up.

A bad caller costs one of a few places, and that for seconds: whoever is slow is cut off, and whoever comes
while all places are taken is sent away at once.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

log = logging.getLogger("kiln.watch")

AT_ONCE = 8  # callers
QUIET = 5.0  # seconds that a caller may keep silent
LONGEST = 10.0  # seconds that one request may take in all
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered."""

    body: bytes
    status: int = 200
    kind: str = TEXT


class Pages(threading.Thread):
    """Serves `pages`, by path, at an address until stopped."""

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Callable[[], Page]]) -> None:
        super().__init__(name="watch", daemon=True)
        self._wanted, self._pages = address, pages
        self.server: Server | None = None  # once it is started

    def start(self) -> None:
        """Listen and answer. Where it cannot listen its log says so, and that is all: work goes on."""
        try:
            self.server = Server(self._wanted, self._pages)
        except OSError as error:
            log.error(
                "KILN_METRICS: {}:{} cannot be listened on ({}); nobody can watch this worker".format(
                    *self._wanted, error.strerror or error
                )
            )
            return
        log.info("watched at %s/metrics", self.address)
        super().start()

    @property
    def address(self) -> str:
        """Where it answers, once it is started."""
        assert self.server is not None
        host, port = str(self.server.server_address[0]), self.server.server_port
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self) -> None:
        """Answer."""
        assert self.server is not None
        while not self.server.ended:
            try:
                self.server.serve_forever(0.2)
            except Exception:  # whatever it was: who watches must not find nobody there
                log.exception("answering starts anew")
                time.sleep(1.0)
        self.server.server_close()

    def stop(self) -> None:
        """Answer no more; who is being answered is not waited for."""
        assert self.server is not None
        self.server.ended = True
        self.server.shutdown()
        self.join(2.0)


class Server(HTTPServer):
    """One thread accepts, each caller gets one of AT_ONCE."""

    request_queue_size = 16

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Callable[[], Page]]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.pages = pages
        self.ended = False
        self._lock = threading.Lock()
        self.open: dict[Any, float] = {}  # sockets, and when each is cut off
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without HTTPServer's question for this machine's name, which a name server may sit on."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def get_request(self) -> tuple[Any, Any]:
        """The next caller."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(
                0.1
            )  # no more files may be open: one that waits there would be asked for at once again
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Let a thread answer, if a place is free."""
        with self._lock:
            full = len(self.open) >= AT_ONCE
            if not full:
                self.open[request] = time.monotonic() + LONGEST
        if full:
            self.shutdown_request(request)
            return
        answering = threading.Thread(target=self._answer, args=(request, client_address), daemon=True)
        try:
            answering.start()
        except RuntimeError:  # the system gives no more threads
            self._done(request)

    def _answer(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception as error:  # a caller that leaves in between, or is none
            log.debug("a caller was not answered: %s", error)
        finally:
            self._done(request)

    def _done(self, request: Any) -> None:
        self.shutdown_request(request)
        with self._lock:
            self.open.pop(request, None)

    def service_actions(self) -> None:
        """Cut off whoever takes too long; called several times a second."""
        now = time.monotonic()
        with self._lock:
            late = [one for one, until in self.open.items() if until < now]
        for one in late:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    """One request a connection (HTTP/1.0)."""

    server: Server
    timeout = QUIET
    server_version, sys_version = "kiln", ""

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        page = self.server.pages.get(path)
        if page is None:
            self._send(Page(b"there are: " + ", ".join(self.server.pages).encode() + b"\n", 404))
            return
        try:
            answer = page()
        except Exception:
            log.exception("%s cannot be told", path)
            answer = Page(b"this cannot be told now; see the worker's log\n", 500)
        self._send(answer)

    do_HEAD = do_GET  # noqa: N815

    def _send(self, page: Page) -> None:
        self.send_response(page.status)
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is nothing to log."""
        log.debug(format, *args)
