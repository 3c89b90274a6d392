"""Simulated Macs: programs on a PATH of the test's own that speak as the real ones do."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

BATT = "Now drawing from '{source}'\n"
CELL = " -InternalBattery-0 (id=22806627)\t{charge}%; {state}; 5:05 remaining present: true\n"
CUSTOM = """Battery Power:
 Sleep On Power Button 1
 lowpowermode         {low}
 standby              1
 hibernatefile        /var/vm/sleepimage
 displaysleep         2
 sleep                1
AC Power:
 Sleep On Power Button 1
 lowpowermode         {low}
{restart} standby              1
 hibernatefile        /var/vm/sleepimage
 displaysleep         10
 sleep                {sleep}
"""
LIVE = """System-wide power settings:
 SleepDisabled\t\t{never}
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 powernap             1
 disksleep            10
 sleep                {sleep} (sleep prevented by powerd, sharingd)
 hibernatemode        3
 displaysleep         10
 tcpkeepalive         1
 lowpowermode         {low}
"""
LID = """+-o IOPMrootDomain  <class IOPMrootDomain, id 0x100000105, registered, matched, active>
    {{
      "AppleClamshellCausesSleep" = {sleeps}
      "AppleClamshellState" = {closed}
    }}
"""
PROXY = """<dictionary> {{
  ExceptionsList : <array> {{
    0 : *.local
    1 : 169.254/16
  }}
  FTPPassive : 1
{lines}  __SCOPED__ : <dictionary> {{
    en0 : <dictionary> {{
      HTTPEnable : 1
      HTTPPort : 9999
      HTTPProxy : 10.9.9.9
    }}
  }}
}}
"""
DISK = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
\t<key>AESHardware</key>
\t<true/>
\t<key>APFSContainerFree</key>
\t<integer>{free}</integer>
\t<key>APFSContainerReference</key>
\t<string>disk3</string>
</dict>
</plist>
"""
STUB = (
    "xcode-select: error: unable to get active developer directory, "
    "use `sudo xcode-select --switch path/to/Xcode.app` to set one (or see `man xcode-select`)\n"
)
NO_KEY = (
    "The domain/default pair of (/Library/Preferences/com.apple.loginwindow, autoLoginUser) does not exist\n"
)


@dataclass
class FakeMac:
    """A Mac mini that is as it should be; change what shall be otherwise, then `install`."""

    chip: str = "Apple M2 Pro"
    version: str = "15.6.1"
    memory: int = 32 * 2**30
    arm64: str = "1"
    translated: str = "0"
    wired: int = 0
    source: str = "AC Power"
    charge: int | None = None
    low: int = 0
    sleep: int = 0
    restart: int | None = 1
    never: int = 0
    lid: tuple[str, str] | None = None  # closed, causes sleep: "Yes" or "No"
    local_name: str | None = "studio-mini"
    computer_name: str = "Studio’s Mac mini"
    vault: str = "FileVault is Off.\n"
    auto: str | None = None
    proxy: dict[str, str] = field(default_factory=dict)
    tools: str | None = "/Library/Developer/CommandLineTools"
    free: int = 400 * 10**9
    silent: tuple[str, ...] = ()  # programs that are not there

    def answers(self) -> dict[str, tuple[str, str, int]]:
        """By command line: what it prints to stdout and stderr, and its exit code."""
        restart = "" if self.restart is None else f" autorestart          {self.restart}\n"
        settings = {"low": self.low, "sleep": self.sleep, "never": self.never, "restart": restart}
        batt = BATT.format(source=self.source)
        if self.charge is not None:
            state = "charging" if self.source == "AC Power" else "discharging"
            batt += CELL.format(charge=self.charge, state=state)
        lines = "".join(f"  {name} : {value}\n" for name, value in self.proxy.items())
        lid = LID.format(closed=self.lid[0], sleeps=self.lid[1]) if self.lid else ""
        login = "/Library/Preferences/com.apple.loginwindow autoLoginUser"
        found = {
            "sysctl -n machdep.cpu.brand_string": (f"{self.chip}\n", "", 0),
            "sysctl -n hw.model": ("Mac14,12\n", "", 0),
            "sysctl -n hw.ncpu": ("10\n", "", 0),
            "sysctl -n hw.perflevel0.logicalcpu": ("6\n", "", 0),
            "sysctl -n hw.perflevel1.logicalcpu": ("4\n", "", 0),
            "sysctl -n hw.memsize": (f"{self.memory}\n", "", 0),
            "sysctl -n hw.optional.arm64": (f"{self.arm64}\n", "", 0),
            "sysctl -n sysctl.proc_translated": (f"{self.translated}\n", "", 0),
            "sysctl -n iogpu.wired_limit_mb": (f"{self.wired}\n", "", 0),
            "sw_vers -productVersion": (f"{self.version}\n", "", 0),
            "pmset -g batt": (batt, "", 0),
            "pmset -g custom": (CUSTOM.format(**settings), "", 0),
            "pmset -g": (LIVE.format(**settings), "", 0),
            "ioreg -r -k AppleClamshellState -d 1": (lid, "", 0),
            "scutil --get LocalHostName": _or(self.local_name, "LocalHostName: not set\n"),
            "scutil --get ComputerName": (f"{self.computer_name}\n", "", 0),
            "scutil --proxy": (PROXY.format(lines=lines), "", 0),
            "fdesetup status": (self.vault, "", 0),
            f"defaults read {login}": _or(self.auto, NO_KEY),
            "xcode-select -p": _or(self.tools, STUB, 2),
            "diskutil info -plist": (DISK.format(free=self.free), "", 0),
        }
        return {line: told for line, told in found.items() if line.split()[0] not in self.silent}

    def install(self, folder: Path) -> Path:
        """Write the programs into a folder, which is to be the PATH."""
        folder.mkdir(exist_ok=True)
        by_program: dict[str, list[str]] = {}
        for line, (out, err, code) in self.answers().items():
            program, _, arguments = line.partition(" ")
            pattern = shlex.quote(arguments) + ("*" if arguments.endswith("-plist") else "")
            says = f"printf %s {shlex.quote(out)}; printf %s {shlex.quote(err)} >&2; exit {code}"
            by_program.setdefault(program, []).append(f"  {pattern}) {says} ;;")
        for program, cases in by_program.items():
            path = folder / program
            unknown = f'  *) echo "{program}: unknown: $*" >&2; exit 64 ;;'
            path.write_text("\n".join(["#!/bin/sh", 'case "$*" in', *cases, unknown, "esac"]) + "\n")
            path.chmod(0o755)
        return folder


def _or(value: str | None, error: str, code: int = 1) -> tuple[str, str, int]:
    return ("", error, code) if value is None else (f"{value}\n", "", 0)
