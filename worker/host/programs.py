"""Running the system's own programs, through one door that tests can stand in for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

NOT_FOUND = 127  # what a shell says of a program that is not there


@dataclass(frozen=True, slots=True)
class Answer:
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its complaint on one line."""
        return " ".join((self.err.strip() or self.out.strip()).split())


Runner = Callable[..., Answer]  # called with the command's words


def run(*command: str) -> Answer:
    """Run a program to its end and keep what it says. One that is missing answers NOT_FOUND."""
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | {"LC_ALL": "C"},  # their answers are read, so in one language
            check=False,
        )
    except OSError as error:
        return Answer(NOT_FOUND, "", f"{command[0]}: {error.strerror}")
    return Answer(ended.returncode, ended.stdout, ended.stderr)


def stream(*command: str) -> int:
    """Run a program whose lines go straight to the terminal, until it ends or Ctrl-C ends it."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    except KeyboardInterrupt:
        return 0
