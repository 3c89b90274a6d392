"""Machines on which `kiln service` is typed, with programs that stand in for the system's."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.worker.commands.app import main
from pixelkiln.worker.commands.service import installation
from pixelkiln.worker.commands.service.installation import Here, tell
from pixelkiln.worker.host.account import Account
from pixelkiln.worker.host.managed import Waiting
from tests.worker.commands.service.fake_system import FakeSystem

UID = os.getuid()
DAEMON = "system/com.pixelkiln.worker"
AGENT = f"gui/{UID}/com.pixelkiln.worker"
SECRET = "correct-horse-of-a-service"  # of this folder alone: the scan for leaks knows those of others


class Mac:
    """A machine on which commands are typed."""

    platform = "darwin"

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capture: Any) -> None:
        self.system = FakeSystem(folder)
        self.home = folder / "home"
        self.checkout = self.home / "pixelkiln"
        self.daemons = folder / "LaunchDaemons"
        for made in (self.checkout, self.daemons):
            made.mkdir(parents=True)
        self.now = 0.0
        self.slept: Callable[[], None] = lambda: None
        self._capture, self._patch = capture, monkeypatch
        self.ann = Account("ann", UID, os.getgid(), self.home)
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.setenv("PATH", f"{self.system.bin}:{os.environ['PATH']}")
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.chdir(self.home)
        monkeypatch.setattr(installation, "checkout", lambda: self.checkout)
        monkeypatch.setattr(Account, "named", staticmethod(lambda name: self.ann))
        monkeypatch.setattr(Account, "current", staticmethod(lambda: self.ann))

    @property
    def env(self) -> Path:
        return self.home / ".config/pixelkiln/env"

    @property
    def plist(self) -> Path:
        return self.daemons / "com.pixelkiln.worker.plist"

    def kiln(self, *words: str, root: bool = False, **variables: str) -> tuple[int, str]:
        """Type a command, with sudo if `root`; its exit code and all that it printed."""
        environ = ({"SUDO_USER": "ann"} if root and self.platform == "darwin" else {}) | variables

        def sleep(seconds: float) -> None:
            self.now += seconds
            self.slept()

        waiting = Waiting(tell, sleep, lambda: self.now)
        here = Here(self.platform, 0 if root else 501, environ, waiting=waiting, daemons=self.daemons)
        self._patch.setattr(Here, "found", classmethod(lambda cls: here))
        self._patch.setattr(sys, "argv", ["kiln", "service", *words])
        with pytest.raises(SystemExit) as end:
            main()
        said = self._capture.readouterr()
        assert SECRET not in said.out + said.err
        return int(end.value.code or 0), said.out + said.err

    def installed(self, **variables: str) -> None:
        assert self.kiln("install", root=True, **variables)[0] == 0
        self.system.set(calls=[])

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def status(self) -> dict[str, Any]:
        (one,) = json.loads(self.kiln("status", "--json")[1])
        return one


class Linux(Mac):
    platform = "linux"
