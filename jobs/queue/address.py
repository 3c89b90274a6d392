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
_KNOWN = {"redis", "rediss", "unix", *_SCHEMES}


class AddressError(ValueError):
    """An address cannot be meant as it stands; the message shows nothing of it."""


class NoMasterError(redis.ConnectionError):
    """No Sentinel names a master."""


class Sentinels:
    """Those that watch one service, asked in turn for its master; whoever answered is asked first."""

    def __init__(self, hosts: list[tuple[str, int]], service: str, options: dict[str, Any]) -> None:
        self._hosts = hosts
        self._service = service
        self._options = options

    def master(self) -> tuple[str, int]:
        """Host and port of the master. Raises redis.ConnectionError where no Sentinel names one."""
        answered, last = False, None
        for host in list(self._hosts):
            try:
                with redis.Redis(*host, **self._options) as sentinel:
                    found: Any = sentinel.execute_command(
                        "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service
                    )
            except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
                last = error
                continue
            answered = True
            if found:
                self._hosts.remove(host)
                self._hosts.insert(0, host)
                return found[0].decode(), int(found[1])
        what = f"knows a master named {self._service!r}" if answered else "answers"
        raise NoMasterError(f"no Sentinel {what}") from (None if answered else last)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect, and as whom."""

    options: dict[str, Any] = field(repr=False)  # as redis-py's connections take them; with the password
    sentinels: Sentinels | None = None  # then they know host and port, anew for every connection

    @classmethod
    def parse(cls, url: str) -> Self:
        """Of redis://, rediss:// or unix:// as redis-py has them, valkey:// or valkeys://, or of Sentinels.

        redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE]: user and password
        are the servers'; the Sentinels' own are ?sentinel_username=…&sentinel_password=…. Raises
        AddressError, or ValueError, whose message may show secrets.
        """
        if wrong := fault(url):
            raise AddressError(wrong)
        scheme, _, rest = url.partition("://")
        scheme, _, by = scheme.partition("+")
        scheme = _SCHEMES.get(scheme, scheme)
        if not by:
            return cls(_parsed(f"{scheme}://{rest}"))
        if by != "sentinel" or scheme not in _SCHEMES.values():
            raise AddressError("behind the + of its scheme only sentinel is known")
        parts = urlsplit(f"{scheme}://{rest}")
        who, at, names = parts.netloc.rpartition("@")
        service, _, database = parts.path.strip("/").partition("/")
        found = [urlsplit(f"//{name}") for name in names.split(",")]
        hosts = [(one.hostname, one.port or SENTINEL_PORT) for one in found if one.hostname]
        if not service or len(hosts) < len(found) or not (database or "0").isdecimal():
            raise AddressError("it is redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/0, without spaces")
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


def fault(url: str) -> str:
    """What of an address cannot be meant so, where redis-py might go elsewhere; '' for nothing."""
    scheme, there, rest = url.partition("://")
    base, _, by = scheme.partition("+")
    if not there:
        return "it has no scheme: write redis://HOST:PORT/0, or rediss:// for TLS"
    if base in ("http", "https"):
        return "http:// is for the web and S3: write redis://HOST:PORT/0, or rediss:// for TLS"
    if base not in _KNOWN:
        return "its scheme is not redis, rediss, unix, valkey, valkeys or redis+sentinel (without quotes)"
    try:
        parts = urlsplit(url)
        if "@" in parts.path.partition("?")[0] + parts.query + parts.fragment and "@" not in parts.netloc:
            return "its password holds a / ? or #: write these as %2F %3F %23 there (@ as %40, % as %25)"
        if by or base == "unix":
            return ""
        if parts.port == 0:
            return "its port is 0"
    except ValueError as error:
        if "port" not in str(error).lower():
            return "it has a [ or ] that belongs to no IPv6 address: in a password write %5B and %5D"
        return "its port is no number up to 65535 (in a password write : as %3A, / as %2F)"
    if not parts.hostname or any(char.isspace() for char in rest):
        return "it names no host, or has a space in it: redis://:PASSWORD@HOST:PORT/0"
    if parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        return "behind the host stands the number of a database, /0"
    if "ssl_" in parts.query and _SCHEMES.get(base, base) != "rediss":
        return "options ssl_… go with rediss:// alone"
    return ""


def _parsed(url: str) -> dict[str, Any]:
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    return options
