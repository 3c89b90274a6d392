"""Keeping the machine from going to sleep: while there is work and, on mains power, while there may be some.

A machine that sleeps hears of no job: nothing in Redis can wake it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import psutil

from pixelkiln.worker.host.programs import find, mac

log = logging.getLogger("kiln.keep_awake")

Mode = Literal["always", "mains", "working"]

LOOK = 30.0  # seconds between looks at the plug


class KeepAwake:
    """Holds the system's own inhibitor as a child process: it ends with us, however we end.

    always: while idle too. mains: while idle only on mains power. working: not while idle.
    """

    def __init__(self, mode: Mode = "mains", clock: Callable[[], float] = time.monotonic) -> None:
        self._mode = mode
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._running: list[str] = []  # the child's command
        self._failed: list[str] = []  # the last that did not start
        self._looked = float("-inf")
        self._plugged = True

    def hold(self) -> None:
        """Keep the machine awake from now on. Machines without an inhibitor are left as they are."""
        self._run(_command("-i", "-s"))

    def idle(self) -> None:
        """There is nothing to do: let it sleep, or not, as the mode says."""
        if self._mode == "always":
            self.hold()
        elif self._mode == "working":
            self.release()
        elif mac():
            self._run(_command("-s"))  # an assertion that counts on mains power only: macOS follows the plug
        elif self._on_mains():
            self.hold()
        else:
            self.release()

    def release(self) -> None:
        """Let it sleep."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait()
            self._child = None

    def _run(self, command: list[str] | None) -> None:
        before = self._child
        if before is not None and before.poll() is None and command == self._running:
            return
        if command is None:
            return
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for us: the running job is finished first
            )
            self._running = command
        except OSError as error:
            if command != self._failed:
                log.warning("%s does not start (%s); this machine may go to sleep", command[0], error)
            self._failed = command
            return
        if before is not None:  # ended only now: no moment was without an inhibitor
            before.terminate()
            before.wait()

    def _on_mains(self) -> bool:
        if self._clock() - self._looked >= LOOK:
            self._looked = self._clock()
            battery = psutil.sensors_battery()
            self._plugged = battery is None or battery.power_plugged is not False
        return self._plugged


def _command(*assertions: str) -> list[str] | None:
    if mac():
        return ["/usr/bin/caffeinate", *assertions, "-w", str(os.getpid())]
    inhibit = find("systemd-inhibit")
    # Without a running systemd the tool would fail each time.
    if inhibit and Path("/run/systemd/system").is_dir():
        watch = f"while kill -0 {os.getpid()} 2>/dev/null; do sleep 5; done"
        return [inhibit, "--what=sleep:idle", "--who=pixelkiln", "--why=rendering", "/bin/sh", "-c", watch]
    return None
