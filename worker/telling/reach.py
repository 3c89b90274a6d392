"""Where an address leads, and whether anything may be sent there: looked at anew for every connection.

What was looked at is what is connected to: a name that leads elsewhere a moment later leads nobody there.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection

from pixelkiln.jobs.webhooks import Webhook

CONNECT = 5.0  # seconds
Resolve = Callable[[str, int], list[str]]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA = {ipaddress.ip_address("168.63.129.16")}  # Azure's; the others' are link-local or private
# Older patches of Python 3.11 take these for global.
_PRIVATE = [ipaddress.ip_network(one) for one in ("192.0.0.0/24", "fec0::/10", "64:ff9b:1::/48")]


class TellError(Exception):
    """Nothing was told, for a reason of one line."""


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises TellError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TellError(f"{host} is not found ({getattr(error, 'strerror', None) or error})") from None
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def refusal(text: str) -> str:
    """What kind of address this is, where nothing is sent there unless its host is named; else ''."""
    try:
        address: _Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "none that is known"
    for one in (*_inside(address), address):
        kinds = {
            "loopback": one.is_loopback,
            "link-local": one.is_link_local,
            "metadata": one in _METADATA,
            "multicast": one.is_multicast,
            "private": not one.is_global or any(one in network for network in _PRIVATE),
        }
        if found := [kind for kind, is_so in kinds.items() if is_so]:
            return found[0]
    return ""


def _inside(address: _Address) -> list[_Address]:
    """The IPv4 addresses that an IPv6 one leads to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    within = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        within.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in within if one is not None]


def addresses(hook: Webhook, named: Collection[str], find: Resolve = resolve) -> list[str]:
    """Where `hook` leads. Raises TellError where it leads, with any of its addresses, where it may not."""
    if why := hook.unsafe(named):
        raise TellError(why)
    found = find(hook.host, hook.port)
    if hook.host not in named:
        for one in found:
            if kind := refusal(one):
                raise TellError(
                    f"{hook.host} is {kind} ({one}) and is told nothing; if that is meant, name it in"
                    " KILN_WEBHOOK_HOSTS"
                )
    return found


def connect(hook: Webhook, named: Collection[str], find: Resolve = resolve) -> socket.socket:
    """A connection to the first of its addresses that takes one. Raises TellError."""
    why = f"{hook.host} has no address"
    for address in addresses(hook, named, find):
        try:
            return socket.create_connection((address, hook.port), timeout=CONNECT)
        except OSError as error:
            why = f"{hook.host} at {address} does not answer ({error.strerror or error})"
    raise TellError(why)
