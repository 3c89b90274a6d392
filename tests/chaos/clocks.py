"""Clocks that jump: those of a worker, and Redis's, each read from a file by libfaketime."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.local.valkey import Valkey


def faketime() -> Path | None:
    """libfaketime, where it is installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0] if found else None


def faked(clock: Path) -> dict[str, str]:
    """What a program's environment needs to read the time of day from that file."""
    return {
        "LD_PRELOAD": str(faketime()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(clock: Path, seconds: float) -> None:
    """Put the clock that reads this file `seconds` off."""
    part = clock.with_suffix(".part")
    part.write_text(f"{seconds:+.0f}\n")
    part.replace(clock)


class SteppedValkey(Valkey):
    """A Valkey whose clock can be put forward and back while it runs."""

    @property
    def clock(self) -> Path:
        """The file its clock is read from."""
        return self.folder / "clock"

    def _find_binary(self) -> Path:
        binary = super()._find_binary()
        if not self.clock.exists():
            set_clock(self.clock, 0)
        words = " ".join(f"{name}='{value}'" for name, value in faked(self.clock).items())
        self.write_private("stepped", f"#!/bin/sh\nexec env {words} '{binary}' \"$@\"\n")
        stepped = self.folder / "stepped"
        stepped.chmod(0o700)
        return stepped
