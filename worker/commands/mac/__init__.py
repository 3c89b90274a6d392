"""What `kiln doctor` looks at on a Mac."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.examination import Finding
from pixelkiln.worker.commands.mac import boot, chip, network, places, power
from pixelkiln.worker.commands.mac.looks import Look, Mac
from pixelkiln.worker.host.programs import Ask, ask

LOOKS: tuple[Look, ...] = (*chip.LOOKS, *power.LOOKS, *network.LOOKS, *places.LOOKS, *boot.LOOKS)


def look(settings: Settings, asked: Ask = ask, home: Path | None = None) -> list[Finding]:
    """Look at all of it; what a program does not tell is said to be unknown."""
    mac = Mac(settings, asked, home or Path.home())
    return [finding for one in LOOKS for finding in one.find(mac)]


def planned() -> list[dict[str, str]]:
    """What would be looked at on a Mac, and by which command."""
    return [{"what": one.what, "tells": one.tells, "by": one.by} for one in LOOKS]
