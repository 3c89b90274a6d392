"""Asking the system's own programs: short questions, answered in text."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"  # launchd, cron and some shells give a PATH without /usr/sbin
PATIENCE = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program printed before it ended."""

    code: int
    out: str
    err: str = ""

    @property
    def text(self) -> str:
        """What it printed where it succeeded; '' where it did not."""
        return self.out.strip() if self.code == 0 else ""


Ask = Callable[..., Answer | None]  # a program and its arguments


def ask(*command: str) -> Answer | None:
    """Run a program of the system's; None where there is none, or it does not answer in time."""
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), SYSTEM)))
    program = shutil.which(command[0], path=path)
    if program is None:
        return None
    try:
        ran = subprocess.run(
            [program, *command[1:]],
            env={**os.environ, "PATH": path, "LC_ALL": "C"},  # numbers and words as they are read here
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Answer(ran.returncode, ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace"))


def mac() -> bool:
    """Whether this is macOS."""
    return sys.platform == "darwin"
