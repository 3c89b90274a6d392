"""What KILN_REDIS_URL may say: where a server is, or which Sentinels know where it is now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

SENTINEL_PORT = 26379
SENTINEL_PATIENCE = 1.0  # seconds that one Sentinel may take: the next may know
_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}


class Sentinels:
    """Those that watch one service, asked in turn for its master; whoever answered is asked first."""

    def __init__(self, hosts: list[tuple[str, int]], service: str, options: dict[str, Any]) -> None:
        self._hosts = hosts
        self._service = service
        self._options = options

    def master(self) -> tuple[str, int]:
        """Host and port of the master. Raises redis.ConnectionError where no Sentinel names one."""
        answered = False
        for host in list(self._hosts):
            try:
                with redis.Redis(*host, **self._options) as sentinel:
                    found: Any = sentinel.execute_command(
                        "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service
                    )
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError):
                continue
            answered = True
            if found:
                self._hosts.remove(host)
                self._hosts.insert(0, host)
                return found[0].decode(), int(found[1])
        what = f"knows a master named {self._service!r}" if answered else "answers"
        raise redis.ConnectionError(f"no Sentinel {what}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect, and as whom."""

    options: dict[str, Any] = field(repr=False)  # as redis-py's connections take them; with the password
    sentinels: Sentinels | None = None  # then they know host and port, anew for every connection

    @classmethod
    def parse(cls, url: str) -> Self:
        """Of redis://, rediss:// or unix:// as redis-py has them, valkey:// or valkeys://, or of Sentinels.

        redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE]: user and password
        are the servers'; the Sentinels' own are ?sentinel_username=…&sentinel_password=…. Raises ValueError,
        whose message may show secrets.
        """
        scheme, _, rest = url.partition("://")
        scheme, _, by = scheme.partition("+")
        scheme = _SCHEMES.get(scheme, scheme)
        if not by:
            return cls(_parsed(f"{scheme}://{rest}"))
        if by != "sentinel" or scheme not in _SCHEMES.values():
            raise ValueError("an unknown scheme")
        parts = urlsplit(f"{scheme}://{rest}")
        who, at, names = parts.netloc.rpartition("@")
        service, _, database = parts.path.strip("/").partition("/")
        found = [urlsplit(f"//{name}") for name in names.split(",")]
        hosts = [(one.hostname, one.port or SENTINEL_PORT) for one in found if one.hostname]
        if not service or len(hosts) < len(found) or not (database or "0").isdecimal():
            raise ValueError("no service, or a host that is none")
        options = _parsed(f"{scheme}://{who}{at}sentinels/{database or 0}?{parts.query}")
        del options["host"]
        theirs = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
        theirs |= {name: value for name, value in options.items() if name.startswith("ssl_")}
        return cls(
            options,
            Sentinels(
                hosts,
                unquote(service),
                {
                    **theirs,
                    "ssl": scheme == "rediss",
                    "protocol": 2,
                    "retry": Retry(NoBackoff(), 0),
                    "socket_timeout": SENTINEL_PATIENCE,
                    "socket_connect_timeout": SENTINEL_PATIENCE,
                },
            ),
        )


def _parsed(url: str) -> dict[str, Any]:
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    return options
