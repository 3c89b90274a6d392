"""Whether this Mac stays awake overnight."""

from __future__ import annotations

from pixelkiln.worker.commands.doctor.finding import Finding
from pixelkiln.worker.commands.doctor.mac.looks import Look, Mac


def _mains(mac: Mac) -> list[Finding]:
    power = mac.power
    charge = "" if power.charge is None else f", battery at {power.charge}%"
    if power.mains is None:
        return [Finding("warning", "power", "pmset does not tell where power comes from")]
    if not power.mains:
        idle = mac.settings.keep_awake != "always"
        words = "; a worker keeps it awake only while it renders" if idle else ""
        mend = "plug it in" + (", or KILN_KEEP_AWAKE=always" if idle else "")
        return [Finding("warning", "power", f"on battery{charge}{words}", mend)]
    return [Finding("ok", "power", f"on mains{charge}")]


def _lid(mac: Mac) -> list[Finding]:
    power = mac.power
    if power.lid_closed is None:
        return [Finding("ok", "lid", "none")]
    if power.never:
        return [Finding("ok", "lid", "may be closed: sleep is disabled (pmset disablesleep)")]
    mend = "leave it open, connect a display, or: sudo pmset -a disablesleep 1"
    if power.lid_closed and power.lid_sleeps is not False:
        return [Finding("problem", "lid", "closed: it sleeps, whatever a worker asks for", mend)]
    if power.lid_closed:
        return [Finding("ok", "lid", "closed, with a display that keeps it awake")]
    return [Finding("ok", "lid", "open; closed it sleeps, whatever a worker asks for", mend)]


def _low(mac: Mac) -> list[Finding]:
    if mac.power.low:
        return [
            Finding(
                "warning",
                "low power mode",
                "on: a step takes up to twice as long",
                "sudo pmset -a lowpowermode 0",
            )
        ]
    return [Finding("ok", "low power mode", "off")]


def _sleep(mac: Mac) -> list[Finding]:
    power, awake = mac.power, mac.settings.keep_awake
    mend = "sudo pmset -c sleep 0"
    if power.never or power.sleep == 0:
        return [Finding("ok", "idle sleep", "never on mains")]
    if power.sleep is None:
        return [Finding("warning", "idle sleep", "pmset does not tell when it sleeps", mend)]
    found = f"after {power.sleep} min idle on mains"
    if awake == "working":
        words = f"{found}, and KILN_KEEP_AWAKE=working lets it: then no job wakes it"
        return [Finding("warning", "idle sleep", words, f"{mend}, or KILN_KEEP_AWAKE=mains")]
    words = (
        f"{found}, unless a worker runs (KILN_KEEP_AWAKE={awake}): one that has ended cannot be reached then"
    )
    return [Finding("warning", "idle sleep", words, mend)]


def _restart(mac: Mac) -> list[Finding]:
    if mac.power.restarts is False:
        return [Finding("warning", "power cut", "it stays off after one", "sudo pmset -a autorestart 1")]
    told = {True: "it starts again after one", None: "pmset knows no autorestart here"}
    return [Finding("ok", "power cut", told[mac.power.restarts])]


LOOKS = (
    Look("power", "mains or battery, and its charge", "pmset -g batt", _mains),
    Look(
        "lid",
        "closed or open, and whether closing it means sleep",
        "ioreg -r -k AppleClamshellState -d 1",
        _lid,
    ),
    Look("low power mode", "on or off", "pmset -g", _low),
    Look("idle sleep", "after how many idle minutes, disablesleep", "pmset -g custom; pmset -g", _sleep),
    Look("power cut", "whether it starts again by itself", "pmset -g custom", _restart),
)
