"""Connections to the Redis of a local instance, which follow it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import redis
from redis.connection import parse_url

from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.instance import Instance


class LocalConnection(redis.Connection):
    """Goes, each time it connects, where instance.json in `home` leads, and to a server that lives.

    So a client finds an instance that was started again elsewhere, and sends the password to nobody else.
    """

    def __init__(self, *, home: Path, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._home = home

    def _connect(self) -> socket.socket:
        try:
            instance = Instance.running(self._home, "valkey")
        except NotReadyError as error:
            raise redis.ConnectionError(str(error)) from None
        now = parse_url(instance.redis_url.get_secret_value())  # type: ignore[no-untyped-call]
        self.host, self.port, self.password = now["host"], now["port"], now["password"]
        connected: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        return connected
