"""What this Mac is called."""

from __future__ import annotations

import re

from pixelkiln.worker.host.programs import Ask, ask

_ADDRESS = re.compile(r"(ip-?|dhcp-?)?\d{1,3}([-.]\d{1,3}){3}\b.*|[0-9a-f]{12}", re.IGNORECASE)
_ANY = re.compile(
    r"(mac|macbook|imac|mac-?mini|mac-?studio|mac-?pro|macbook-?(air|pro)|localhost|unknown)(-?\d{1,2})?(\.local)?",
    re.IGNORECASE,
)


def local_host_name(asked: Ask = ask) -> str:
    """Its name in the local network, without `.local`, which no DHCP server changes; '' for none."""
    return _get("LocalHostName", asked)


def computer_name(asked: Ask = ask) -> str:
    """The name that System Settings shows, with whatever characters; '' for none."""
    return _get("ComputerName", asked)


def from_dhcp(name: str) -> bool:
    """Whether a host name is an address in disguise, as DHCP gives them: "192-168-1-23"."""
    return _ADDRESS.fullmatch(name.split(".")[0] if "-" in name else name) is not None


def as_sold(name: str) -> bool:
    """Whether a name is one that any Mac comes with, so that several in a farm may bear it."""
    return _ANY.fullmatch(name) is not None


def _get(which: str, asked: Ask) -> str:
    found = asked("scutil", "--get", which)
    return found.text if found else ""
