"""Running the system's own programs, through doors that tests can stand in for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"  # launchd, cron and some shells give a PATH without /usr/sbin
PATIENCE = 10.0  # seconds that a short question may take
NOT_FOUND = 127  # what a shell says of a program that is not there


@dataclass(frozen=True, slots=True)
class Answer:
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str = ""

    @property
    def text(self) -> str:
        """What it printed where it succeeded; '' where it did not."""
        return self.out.strip() if self.code == 0 else ""

    @property
    def said(self) -> str:
        """Its complaint on one line."""
        return " ".join((self.err.strip() or self.out.strip()).split())


Runner = Callable[..., Answer]  # called with the command's words
Ask = Callable[..., Answer | None]  # likewise


def search_path() -> str:
    """PATH and the system's folders, less what is empty or relative there, which means wherever we are."""
    entries = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join([*filter(os.path.isabs, entries), SYSTEM])


def find(name: str) -> str | None:
    """Where a program lies; never in the working folder, which may be anybody's."""
    return shutil.which(name, path=search_path())


def run(*command: str, patience: float | None = None) -> Answer:
    """Run a program to its end and keep what it says. One that is missing answers NOT_FOUND.

    Raises subprocess.TimeoutExpired after `patience` seconds, if given.
    """
    program = find(command[0])
    if program is None:
        return Answer(NOT_FOUND, "", f"{command[0]}: there is no such program")
    try:
        ended = subprocess.run(
            [program, *command[1:]],
            env={**os.environ, "PATH": search_path(), "LC_ALL": "C"},  # answers are read, so in one language
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience,
            check=False,
        )
    except OSError as error:
        return Answer(NOT_FOUND, "", f"{command[0]}: {error.strerror}")
    return Answer(
        ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")
    )


def ask(*command: str) -> Answer | None:
    """Put a short question to a program; None where there is none, or it does not answer in time."""
    try:
        answer = run(*command, patience=PATIENCE)
    except subprocess.TimeoutExpired:
        return None
    return None if answer.code == NOT_FOUND else answer


def stream(*command: str) -> int:
    """Run a program whose lines go straight to the terminal, until it ends or Ctrl-C ends it."""
    program = find(command[0])
    if program is None:
        return NOT_FOUND
    try:
        return subprocess.run([program, *command[1:]], stdin=subprocess.DEVNULL, check=False).returncode
    except KeyboardInterrupt:
        return 0


def mac() -> bool:
    """Whether this is macOS."""
    return sys.platform == "darwin"
