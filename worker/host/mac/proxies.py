"""The proxies of System Settings, which Python's urllib and botocore read when no variable names one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pixelkiln.worker.host.programs import Ask, ask

_LINE = re.compile(r"^  (\w+) : (\S+)$", re.MULTILINE)
_EXCEPTION = re.compile(r"^    \d+ : (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Proxies:
    """As `scutil --proxy` prints them."""

    http: str = ""  # HOST:PORT
    https: str = ""
    script: str = ""  # a PAC script's URL, or "discovered"; browsers follow it, Python does not
    exceptions: tuple[str, ...] = ()


def read_proxies(asked: Ask = ask) -> Proxies:
    """The proxies in force on this Mac."""
    found = asked("scutil", "--proxy")
    text = found.text if found else ""
    # Settings of single interfaces follow, deeper and with the same names.
    fields: dict[str, str] = {}
    for name, value in _LINE.findall(text):
        fields.setdefault(name, value)

    def address(kind: str) -> str:
        on, host = fields.get(f"{kind}Enable") == "1", fields.get(f"{kind}Proxy", "")
        return f"{host}:{fields.get(f'{kind}Port', '80')}" if on and host else ""

    script = fields.get("ProxyAutoConfigURLString", "") if fields.get("ProxyAutoConfigEnable") == "1" else ""
    if not script and fields.get("ProxyAutoDiscoveryEnable") == "1":
        script = "discovered"
    return Proxies(address("HTTP"), address("HTTPS"), script, tuple(_EXCEPTION.findall(text)))
