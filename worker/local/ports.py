"""Loopback ports that nothing listens on."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"
# Below the ports that Linux and macOS hand to outgoing connections, so none of those takes one in between;
# the upper half is left to `PAIR`.
_LOWEST, _HIGHEST = 10240, 20239
PAIR = 10000  # some servers derive a second port from the first by adding this


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        # As servers do: connections of the port's last owner that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    # macOS lets a server have the loopback address of a port that another, as AirPlay, holds on all of them.
    return not answers(port)


def answers(port: int) -> bool:
    """Whether a server listens on `port`, here or on every address of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def free_ports(count: int, besides: Collection[int] = ()) -> list[int]:
    """`count` different ports, none of `besides`, free at `PAIR` above too.

    Another may take one before its use.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randint(_LOWEST, _HIGHEST)
        if port not in found and port not in besides and is_free(port) and is_free(port + PAIR):
            found.append(port)
    return found
