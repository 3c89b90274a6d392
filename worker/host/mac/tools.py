"""Apple's developer tools, whose stubs in /usr/bin open a dialog where they are not installed."""

from __future__ import annotations

from pixelkiln.worker.host.programs import Ask, ask


def developer_folder(asked: Ask = ask) -> str:
    """Where the tools lie; '' where /usr/bin/python3 and /usr/bin/git are only stubs."""
    found = asked("xcode-select", "-p")
    return found.text if found else ""
