"""What launchd and systemd have in common: a service, the files it needs, the state it is in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pixelkiln.jobs.errors import KilnError
from pixelkiln.worker.host.account import Account, acting_as
from pixelkiln.worker.host.programs import Runner
from pixelkiln.worker.host.restarts import THROTTLE, meaning

POLL = 1.0  # seconds between looks at a service that is ending
TELL = 10.0  # seconds between words about it


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of service: a row in ROLES, behind those that it needs, and one in the command's RUNS."""

    name: str
    description: str
    stop_seconds: int  # from SIGTERM to SIGKILL


ROLES = {
    role.name: role
    for role in (
        Role("up", "pixelkiln servers", 60),
        Role("serve", "pixelkiln HTTP server", 60),
        # One picture of the largest size, and its delivery.
        Role("worker", "pixelkiln worker", 600),
    )
}


@dataclass(frozen=True, slots=True)
class Definition:
    """A service as it shall be installed."""

    role: Role
    account: Account
    command: tuple[str, ...]  # no secrets: anyone may see a process's arguments
    folder: Path  # where it runs: kiln.toml and .kiln are looked for there
    log: Path | None  # None: journald has it
    throttle: int = THROTTLE


@dataclass(frozen=True, slots=True)
class File:
    """A file, or with no content a folder, to be made."""

    path: Path
    mode: int
    owner: Account | None  # None: root
    content: str | None = None
    secret: str = ""  # what to show instead of the content

    def write(self) -> None:
        """Make it, whole and with its mode, as its owner."""
        if self.owner is None:
            self._write()
        else:
            with acting_as(self.owner):
                self._write()

    def _write(self) -> None:
        try:
            if self.content is None:
                self.path.mkdir(mode=self.mode, parents=True, exist_ok=True)
                return
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self.path.with_name(f".{self.path.name}.part")
            part.unlink(missing_ok=True)
            part.touch(mode=0o600)
            part.write_text(self.content, encoding="utf-8")
            part.chmod(self.mode)
            part.replace(self.path)
        except OSError as error:
            raise KilnError(f"{self.path} cannot be written ({error.strerror})") from None


def same(path: Path, content: str) -> bool:
    """Whether the file is there and holds just that."""
    try:
        return path.read_text(encoding="utf-8") == content
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class State:
    """What the system says of a service.

    waiting: ended, will be started again; stopping: told to leave, still at it; stopped: ended, stays away;
    unloaded: its file is there, the system does not know it.
    """

    name: Literal[
        "not installed", "unloaded", "disabled", "running", "waiting", "stopping", "stopped", "failed"
    ]
    pid: int | None = None
    code: int | None = None  # the last exit's
    signal: int | None = None  # that ended it last
    restarts: int = 0
    said: str = ""  # the system's own words, where they are worth repeating

    @property
    def known(self) -> bool:
        """Whether the system has it loaded, in whatever state."""
        return self.name not in {"not installed", "unloaded", "disabled"}

    @property
    def last_exit(self) -> str:
        """What its last exit means; empty where none is known."""
        if self.code is None and self.signal is None:
            return ""
        return meaning(self.code, self.signal)


@dataclass
class Waiting:
    """Patience for services that take their time to end: the running job is finished first."""

    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _interrupted: bool = field(default=False, init=False)

    def until(self, over: Callable[[], bool], what: str, bound: float) -> None:
        """Wait until it is over. The first Ctrl-C only says what is waited for, the second gives up.

        Raises KilnError where it was given up, or is not over after `bound` seconds.
        """
        began = told = self.clock()
        while not over():
            now = self.clock()
            if now - began > bound:
                raise KilnError(f"{what} is still going on after {bound:.0f} s; see `kiln service status`")
            if now - told >= TELL or now == began:
                told = now
                self.say(f"{what}: {now - began:.0f} s of at most {bound:.0f} (Ctrl-C twice stops waiting)")
            try:
                self.sleep(POLL)
            except KeyboardInterrupt:
                if self._interrupted:
                    raise KilnError(
                        f"gave up waiting: {what} goes on by itself; see `kiln service status`"
                    ) from None
                self._interrupted = True
                self.say("the running job is being finished; Ctrl-C again stops waiting for it")


def running_for(run: Runner, pid: int) -> float | None:
    """Seconds that a process has run, by ps: [[days-]hours:]minutes:seconds."""
    text = run("ps", "-o", "etime=", "-p", str(pid)).out.strip()
    days, _, clock = text.rpartition("-")
    try:
        seconds = 0
        for part in clock.split(":"):
            seconds = seconds * 60 + int(part)
        return float(int(days or 0) * 86400 + seconds)
    except ValueError:
        return None
