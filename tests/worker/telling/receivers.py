"""Receivers of webhooks on loopback, good ones and others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What came to one address, and how it answers."""

    status: int = 204
    silent: bool = False  # takes the request, and answers when `release` is set
    headers: dict[str, str] = field(default_factory=dict)
    port: int = 0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/kiln?token=a-secret"

    def events(self, kind: str) -> list[dict[str, Any]]:
        bodies = (json.loads(body) for _, body in list(self.requests))
        return [body for body in bodies if body["type"] == kind]


@contextmanager
def receiving(*receivers: Receiver) -> Iterator[None]:
    """While the block lasts, they listen."""
    servers = [_serve(receiver) for receiver in receivers]
    try:
        yield
    finally:
        for receiver, server in zip(receivers, servers, strict=True):
            receiver.release.set()
            server.shutdown()
            server.server_close()


def _serve(receiver: Receiver) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append((dict(self.headers.items()), body))
            if receiver.silent:
                receiver.release.wait()
                return
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
