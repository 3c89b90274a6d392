"""What happens after a reboot: who must log in before anything runs."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.host.programs import Ask, ask

LABEL = "com.pixelkiln.worker"
LOGIN = "/Library/Preferences/com.apple.loginwindow"


def file_vault(asked: Ask = ask) -> bool | None:
    """Whether the disk stays locked after a reboot until somebody types a password; None where not told."""
    found = asked("fdesetup", "status")
    text = found.out if found else ""
    if "FileVault is On" in text:  # "On, but …" is on its way: treated as on
        return True
    return False if "FileVault is Off" in text else None


def auto_login(asked: Ask = ask) -> bool:
    """Whether somebody is logged in at each start without a password."""
    found = asked("defaults", "read", LOGIN, "autoLoginUser")
    return bool(found and found.text)


def installed(home: Path, root: Path = Path("/")) -> str:
    """How launchd starts the worker here: 'daemon', 'agent', or '' for not at all."""
    if (root / "Library/LaunchDaemons" / f"{LABEL}.plist").exists():
        return "daemon"
    return "agent" if (home / "Library/LaunchAgents" / f"{LABEL}.plist").exists() else ""
