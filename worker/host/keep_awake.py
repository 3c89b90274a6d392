"""Keeping the machine from going to sleep while there is work."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

log = logging.getLogger("kiln.keep_awake")


class KeepAwake:
    """Holds the system's own inhibitor as a child process: it ends with us, however we end."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def hold(self) -> None:
        """Keep the machine awake from now on. Machines without an inhibitor are left as they are."""
        if self._child is not None and self._child.poll() is None:
            return
        command = _command()
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
        except OSError as error:
            log.warning("%s does not start (%s); this machine may go to sleep", command[0], error)

    def release(self) -> None:
        """Let it sleep."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait()
            self._child = None


def _command() -> list[str] | None:
    if sys.platform == "darwin":
        return ["caffeinate", "-i", "-s", "-w", str(os.getpid())]
    inhibit = shutil.which("systemd-inhibit")
    # Without a running systemd the tool would fail each time.
    if inhibit and Path("/run/systemd/system").is_dir():
        watch = f"while kill -0 {os.getpid()} 2>/dev/null; do sleep 5; done"
        return [inhibit, "--what=sleep:idle", "--who=pixelkiln", "--why=rendering", "sh", "-c", watch]
    return None
