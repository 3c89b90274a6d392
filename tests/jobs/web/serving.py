"""A server of this checkout on a real socket, in a thread of this process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from pixelkiln import Kiln, Settings
from pixelkiln.jobs.web.server import beside
from pixelkiln.jobs.web.tokens import Tokens


@contextmanager
def serving(settings: Settings, tokens: Path, kiln: Kiln | None = None) -> Iterator[str]:
    """Where it is while the block lasts."""
    with beside(settings.model_copy(update={"serve_port": 0, "tokens": tokens}), kiln) as where:
        yield where


def answered(client: httpx.Client, sent: bytes) -> bytes:
    """What a server answers to these bytes, until it closes the connection or is done."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=60) as wire:
        wire.sendall(sent)
        found = b""
        while b"\r\n\r\n" not in found and (part := wire.recv(65536)):
            found += part
        return found


class People:
    """Tokens for tests: of two clients, and of an admin."""

    def __init__(self, path: Path) -> None:
        self.path = path
        made = Tokens(path)
        self.tokens = {
            "one": made.make("one", "one"),
            "two": made.make("two", "two"),
            "admin": made.make("admin", "default", admin=True),
        }

    def headers(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[who]}"}
