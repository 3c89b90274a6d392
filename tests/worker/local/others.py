"""What else may run on a machine."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

WELL_KNOWN = (9333, 8888, 9340, 8333, 7333, 23646, 8181, 9101, 6060)  # what `weed mini` takes by default
SEAWEED = (*WELL_KNOWN, *(port + 10000 for port in WELL_KNOWN))


@contextmanager
def another_listens(port: int) -> Iterator[None]:
    """Another program has the port for the length of the block."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


@contextmanager
def another_seaweed() -> Iterator[None]:
    """Another SeaweedFS has the ports that it takes unasked; those that are taken already serve as well."""
    with ExitStack() as stack:
        for port in SEAWEED:
            with suppress(OSError):
                stack.enter_context(another_listens(port))
        yield


@contextmanager
def stranger_at(port: int) -> Iterator[list[bytes]]:
    """Another user's program has the port, takes whoever comes and says yes to all: what it was sent."""
    heard: list[bytes] = []

    class Ear(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(65536):
                heard.append(data)
                self.request.sendall(b"+OK\r\n")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", port), Ear) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield heard
        server.shutdown()
