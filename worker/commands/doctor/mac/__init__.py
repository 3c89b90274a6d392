"""What `kiln doctor` looks at on a Mac."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.mac import boot, chip, network, places, power
from pixelkiln.worker.commands.doctor.mac.looks import Look, Mac
from pixelkiln.worker.host.programs import Ask, ask

LOOKS: tuple[Look, ...] = (*chip.LOOKS, *power.LOOKS, *network.LOOKS, *places.LOOKS, *boot.LOOKS)


def look(settings: Settings, asked: Ask = ask, home: Path | None = None) -> list[Finding]:
    """Look at all of it; what a program does not tell is said to be unknown."""
    mac = Mac(settings, asked, home or Path.home())
    found: list[Finding] = []
    for one in LOOKS:
        try:
            found += one.find(mac)
        except Exception as error:  # this was written without a Mac: one surprise shall not hide the rest
            words = f"could not be looked at: {type(error).__name__}: {error}"
            found.append(Finding("warning", one.what, words, f"tell us what this prints: {one.by}"))
    return found


def planned() -> list[dict[str, str]]:
    """What would be looked at on a Mac, and by which command."""
    return [{"what": one.what, "tells": one.tells, "by": one.by} for one in LOOKS]
