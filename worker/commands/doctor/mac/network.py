"""The local network, proxies, names and ports."""

from __future__ import annotations

import platform
from urllib.parse import urlsplit

from pixelkiln.jobs import network
from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.mac.looks import Look, Mac
from pixelkiln.worker.host.mac import boot
from pixelkiln.worker.host.mac.names import as_sold, from_dhcp, local_host_name
from pixelkiln.worker.queue.control import worker_name

PRIVACY = 15  # macOS from which on programs need leave for the local network
AIRPLAY = (5000, 7000)  # AirPlay Receiver listens there, on every address


def _privacy(mac: Mac) -> list[Finding]:
    local = [
        name
        for name, url in mac.addresses.items()
        if network.in_local_network(url) and not network.loopback(url)
    ]
    if not local:
        return [Finding("ok", "local network", "not needed: Redis and S3 are here, or on the internet")]
    found = f"{' and '.join(local)} {'are' if len(local) > 1 else 'is'} in it"
    if mac.version and mac.version[0] < PRIVACY:
        return [Finding("ok", "local network", f"{found}; macOS asks for no leave before 15")]
    how = boot.installed(mac.home)
    if how == "agent":
        mend = "sudo kiln service install (a daemon), or System Settings › Privacy & Security › Local Network"
        words = f"{found}; the agent that is installed may be refused (errno 65), though this command is not"
        return [Finding("warning", "local network", words, mend)]
    if how == "daemon":
        return [Finding("ok", "local network", f"{found}; the daemon that is installed needs no leave")]
    return [
        Finding("ok", "local network", f"{found}; Terminal, ssh and daemons need no leave, an agent does")
    ]


def _proxy(mac: Mac) -> list[Finding]:
    proxies = mac.proxies
    url = mac.addresses.get("S3", "")
    proxy = proxies.https if urlsplit(url).scheme == "https" else proxies.http
    if proxies.script:
        kind = "found by itself" if proxies.script == "discovered" else "PAC"
        words = f"a script sets them ({kind}): Python follows none"
        mend = "HTTPS_PROXY=http://HOST:PORT, if the internet cannot be reached otherwise"
        return [Finding("warning", "proxy", words, mend)]
    if not proxies.http and not proxies.https:
        return [Finding("ok", "proxy", "none in System Settings")]
    if network.without_proxy(url):
        return [
            Finding(
                "ok",
                "proxy",
                f"{proxies.https or proxies.http}; not used for S3, which is in the local network",
            )
        ]
    if not proxy:
        return [Finding("ok", "proxy", f"{proxies.https or proxies.http}; not for S3's scheme")]
    mend = "if it need not be: System Settings › Network › Details › Proxies, “Bypass proxy settings for”"
    return [Finding("warning", "proxy", f"requests to S3 go through {proxy}", mend)]


def _name(mac: Mac) -> list[Finding]:
    chosen, own, host = mac.settings.worker_name, local_host_name(mac.ask), platform.node()
    name = chosen or own or host
    shown = worker_name(name, "x").rpartition("-")[0]
    found = f"workers here go by {shown}: worker:{shown}"
    mend = "KILN_WORKER_NAME=mini-1, another on each Mac   (or: sudo scutil --set LocalHostName mini-1)"
    if chosen:
        return [Finding("ok", "name", f"{found} (KILN_WORKER_NAME)")]
    if from_dhcp(name):
        return [Finding("warning", "name", f"{found}, an address that DHCP may give to another", mend)]
    if as_sold(name):
        return [Finding("warning", "name", f"{found}, as other Macs may", mend)]
    changes = f"; the host name {host} follows DHCP and is not used" if from_dhcp(host) else ""
    return [Finding("ok", "name", found + changes)]


def _ports(mac: Mac) -> list[Finding]:
    for name, url in mac.addresses.items():
        try:
            port = urlsplit(url).port
        except ValueError:  # told where it is used
            continue
        if network.loopback(url) and port in AIRPLAY:
            mend = "another port, or System Settings › General › AirDrop & Handoff › AirPlay Receiver: off"
            return [
                Finding("problem", "ports", f"{name} is to be at {port}, which macOS holds for AirPlay", mend)
            ]
    return [Finding("ok", "ports", "none that macOS holds (AirPlay: 5000, 7000)")]


LOOKS = (
    Look(
        "local network",
        "whether Redis or S3 is in it, and whether the worker may use it",
        "launchctl list; System Settings › Privacy & Security › Local Network",
        _privacy,
    ),
    Look("proxy", "the system's proxies, and whether S3 is asked through them", "scutil --proxy", _proxy),
    Look(
        "name",
        "what orders call this Mac, and whether DHCP changes it",
        "scutil --get LocalHostName; hostname",
        _name,
    ),
    Look(
        "ports",
        "whether a server is to be at a port of AirPlay's",
        "lsof -nP -iTCP:5000 -iTCP:7000 -sTCP:LISTEN",
        _ports,
    ),
)
