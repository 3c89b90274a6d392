"""A TCP proxy that loses replies, cuts connections and lies, when a test tells it to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """Stands between a client and `target`, (host, port)."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._away = False
        self._passing = threading.Event()
        self._passing.set()
        self.held = 0  # replies that hang
        self._losing: bytes | None = None
        self.lost = 0  # replies that were swallowed
        self.before: tuple[bytes, Callable[[], None]] | None = None  # what is done before a request
        self.alter: Callable[[bytes, bytes], bytes] | None = None  # (request, reply) -> reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_reply_to(self, needle: bytes) -> None:
        """Carry the next request that holds `needle` to the server, and hang up instead of the reply."""
        self._losing = needle

    def cut(self) -> None:
        """Hang up on everyone, and go on doing so."""
        self._away = True
        for pair in self._pairs:
            _hang_up(*pair)

    def hang(self) -> None:
        """Take every request, and let no reply through."""
        self._passing.clear()

    def mend(self) -> None:
        """Serve again."""
        self._away = False
        self._passing.set()

    def close(self) -> None:
        self.cut()
        self._passing.set()
        # A thread blocked in accept() would keep the port; shutdown wakes it.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._away:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._pairs.append((client, server))
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        last = {"request": b"", "lose": b""}
        back = threading.Thread(target=self._reply, args=(client, server, last), daemon=True)
        back.start()
        with suppress(OSError):
            while chunk := client.recv(1 << 16):
                last["request"] = chunk
                if self._losing is not None and self._losing in chunk:
                    self._losing = None
                    last["lose"] = b"yes"
                if self.before is not None and self.before[0] in chunk:
                    self.before[1]()
                server.sendall(chunk)
        _hang_up(client, server)
        back.join()
        client.close()
        server.close()

    def _reply(self, client: socket.socket, server: socket.socket, last: dict[str, bytes]) -> None:
        with suppress(OSError):
            while chunk := server.recv(1 << 16):
                if last["lose"]:
                    self.lost += 1
                    break
                if not self._passing.is_set():
                    self.held += 1
                    self._passing.wait()
                if self.alter is not None:
                    chunk = self.alter(last["request"], chunk)
                client.sendall(chunk)
        _hang_up(client, server)


def _hang_up(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(url: str) -> Iterator[Proxy]:
    """A proxy to the server of `url`, for the length of the block."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy((parts.hostname, parts.port))
    try:
        yield proxy
    finally:
        proxy.close()


def through(proxy: Proxy, url: str) -> str:
    """`url` with the proxy's address in place of the server's."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user[0]}{user[1]}{proxy.address}").geturl()
