"""What happens after a reboot, and what Apple's tools are."""

from __future__ import annotations

from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.mac.looks import Look, Mac
from pixelkiln.worker.host.mac import boot
from pixelkiln.worker.host.mac.tools import developer_folder


def _vault(mac: Mac) -> list[Finding]:
    locked = boot.file_vault(mac.ask)
    if locked is None:
        return [Finding("warning", "filevault", "fdesetup does not tell")]
    if locked:
        words = "on: after a reboot or power cut nothing starts, no daemon either, until somebody logs in"
        mend = (
            "before a planned reboot: sudo fdesetup authrestart;"
            " or turn it off: System Settings › Privacy & Security › FileVault"
        )
        return [Finding("warning", "filevault", words, mend)]
    return [Finding("ok", "filevault", "off: daemons start without anybody")]


def _login(mac: Mac) -> list[Finding]:
    how, alone = boot.installed(mac.home), boot.auto_login(mac.ask)
    told = "somebody is logged in at each start" if alone else "nobody is logged in by itself"
    if how == "agent" and not alone:
        setting = "System Settings › Users & Groups › Automatically log in as"
        mend = f"sudo kiln service install (a daemon), or {setting}"
        return [Finding("warning", "login", f"{told}: the agent waits for that after a reboot", mend)]
    if not how:
        return [
            Finding(
                "ok",
                "login",
                f"{told}; no worker is installed to start by itself",
                "sudo kiln service install",
            )
        ]
    return [Finding("ok", "login", f"{told}; the {how} starts{' with it' if how == 'agent' else ' without'}")]


def _tools(mac: Mac) -> list[Finding]:
    folder = developer_folder(mac.ask)
    if not folder:
        words = "not installed: /usr/bin/python3 and git only open a dialog"
        mend = "xcode-select --install; or uv alone, which brings its own Python"
        return [Finding("warning", "developer tools", words, mend)]
    return [Finding("ok", "developer tools", folder)]


LOOKS = (
    Look("filevault", "whether the disk stays locked after a reboot", "fdesetup status", _vault),
    Look(
        "login",
        "whether somebody is logged in by itself, and what launchd starts",
        f"defaults read {boot.LOGIN} autoLoginUser; ls /Library/LaunchDaemons ~/Library/LaunchAgents",
        _login,
    ),
    Look("developer tools", "whether /usr/bin/python3 is Apple's stub", "xcode-select -p", _tools),
)
