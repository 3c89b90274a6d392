"""Where the power comes from, and when this Mac goes to sleep."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pixelkiln.worker.host.programs import Ask, ask

_SETTING = re.compile(r"^ *([A-Za-z][A-Za-z ]*?)\s+(-?\d+)\b", re.MULTILINE)
_SOURCE = re.compile(r"Now drawing from '([^']+)'")
_CHARGE = re.compile(r"\bid=\d+\)\s+(\d+)%")
_SECTION = re.compile(r"^([A-Z][\w ]*):\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Power:
    """None where pmset or ioreg did not tell."""

    mains: bool | None
    charge: int | None  # percent of the battery; None on a Mac without one
    low: bool  # Low Power Mode is on now
    sleep: int | None  # idle minutes until it sleeps on mains power; 0 is never
    restarts: bool | None  # by itself after a power cut; None on a Mac that cannot
    lid_closed: bool | None  # None on a Mac without a lid
    lid_sleeps: bool | None  # whether closing the lid would put it to sleep now
    never: bool  # `pmset disablesleep 1`: not even with the lid closed


def read_power(asked: Ask = ask) -> Power:
    """The power of this Mac: `pmset -g batt`, `pmset -g custom`, `pmset -g` and the lid by ioreg."""
    batt, custom, live = (_told(asked, "pmset", "-g", *rest) for rest in (["batt"], ["custom"], []))
    lid = _told(asked, "ioreg", "-r", "-k", "AppleClamshellState", "-d", "1")
    source, charge = _SOURCE.search(batt), _CHARGE.search(batt)
    plugged, now = _sections(custom).get("AC Power", {}), _settings(live)
    return Power(
        mains=source[1] != "Battery Power" if source else None,  # a UPS runs down too, but says so itself
        charge=int(charge[1]) if charge else None,
        # Macs with a High Power Mode have one setting for both: 1 is low, 2 is high.
        low=now.get("lowpowermode") == 1 or now.get("powermode") == 1,
        sleep=plugged.get("sleep"),
        restarts=None if "autorestart" not in plugged else plugged["autorestart"] == 1,
        lid_closed=_yes(lid, "AppleClamshellState"),
        lid_sleeps=_yes(lid, "AppleClamshellCausesSleep"),
        never=now.get("SleepDisabled") == 1,
    )


def _told(asked: Ask, *command: str) -> str:
    found = asked(*command)
    return found.out if found and found.code == 0 else ""


def _settings(text: str) -> dict[str, int]:
    """Its numbers by name; what stands behind them, as "(sleep prevented by …)", is left out."""
    return {name: int(value) for name, value in _SETTING.findall(text)}


def _sections(text: str) -> dict[str, dict[str, int]]:
    parts = _SECTION.split(text)
    return {name: _settings(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _yes(text: str, key: str) -> bool | None:
    found = re.search(rf'"{key}" = (Yes|No)', text)
    return found[1] == "Yes" if found else None
