"""What a local network asks of its programs, and what a Mac forbids them there."""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

NO_ROUTE = 65  # EHOSTUNREACH as macOS numbers it; Linux has another error under that number
# Apple's TN3179: programs that launchd starts for a user are refused so, mostly without a question asked;
# those started from Terminal or ssh, and daemons, are not.
MEND = (
    "macOS finds no route to it (errno 65): if it is on, this program may not use the local network."
    " Allow it in System Settings › Privacy & Security › Local Network,"
    " or run the worker as a daemon: sudo kiln service install"
)
_LOCAL = (".local", ".lan", ".home", ".internal", ".home.arpa")


def no_route(error: BaseException) -> str | None:
    """What to do where a Mac keeps this program from the local network; None where it is something else."""
    return MEND if sys.platform == "darwin" and any(map(_is_no_route, chain(error))) else None


def loopback(url: str | None) -> bool:
    """Whether an address is this machine's own."""
    host = host_of(url)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def an_address(text: str) -> str:
    """HOST:PORT, or a port alone, of this machine then. Raises ValueError for what is neither."""
    host, _, port = text.rpartition(":")
    host = host or "127.0.0.1"
    named = re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.%]+\]", host)
    if not named or not re.fullmatch(r"\d{1,5}", port) or int(port) > 65535:
        raise ValueError("must be HOST:PORT to listen on, for instance 127.0.0.1:9464")
    return f"{host}:{port}"


def is_here(host: str) -> bool:
    """Whether a host is this machine: only its own addresses can be bound."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM) if host else []
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as one:
                one.bind(address)
        except OSError:
            continue
        return True
    return False


def in_local_network(url: str | None) -> bool:
    """Whether an address is of this machine or, by what it looks like, of its network."""
    host = host_of(url)
    try:
        return ipaddress.ip_address(host).is_private  # loopback and link-local addresses too
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_LOCAL))


def without_proxy(url: str | None) -> bool:
    """Whether to pass by the proxies that botocore would use: those of macOS's own settings are for the web.

    One that a variable names was meant, so it holds for all but this machine.
    """
    return loopback(url) or (in_local_network(url) and not getproxies_environment())


def hosts_of(url: str) -> list[str]:
    """Every host of a URL, where Sentinels are several, in lower case."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    names = parts.netloc.rpartition("@")[2].split(",")
    return [host for name in names if (host := host_of(f"//{name}"))]


def host_of(url: str | None) -> str:
    """The host that a URL names, the first of several, in lower case; '' for none."""
    try:
        return (urlsplit(url or "").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_no_route(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == NO_ROUTE


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it: libraries raise their own over the system's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
