"""A service under launchd: its property list, and launchctl's answers.

Written to launchd.plist(5), launchctl(1) and public transcripts of macOS 13 to 26; never tried on a Mac.
"""

from __future__ import annotations

import plistlib
import re
from dataclasses import dataclass
from pathlib import Path

from pixelkiln.jobs.errors import KilnError, NotReadyError, UsageError
from pixelkiln.worker.host.account import Account, acting_as
from pixelkiln.worker.host.managed import ROLES, Definition, File, State, Waiting, same
from pixelkiln.worker.host.programs import Answer, Runner

DAEMONS = Path("/Library/LaunchDaemons")
REMARK = (
    "<!-- Written by `kiln service install`, which writes it anew. Anyone may read it: no secrets here. -->"
)

NO_PROCESS, EIO, IN_PROGRESS, ALREADY, NO_SERVICE, NO_DOMAIN = 3, 5, 36, 37, 113, 125
SETTLE = 30.0  # seconds in which launchd may still refuse a label that it has just let go
START = 10.0  # seconds in which a service that was loaded should have a process
SLACK = 30.0  # seconds beyond the time to stop in which launchd should have killed it

NETWORK = (
    "since macOS 15 an agent's connections to machines of the local network fail (errno 65, no route to "
    "host), often without a prompt, until allowed in System Settings > Privacy & Security > Local Network; "
    "daemons, root, Terminal and ssh are exempt (Apple TN3179)"
)
BACKGROUND = "System Settings > General > Login Items & Extensions > Allow in the Background"


def label(name: str) -> str:
    """launchd's name of the service."""
    return f"com.pixelkiln.{name}"


def property_list(service: Definition, *, agent: bool) -> str:
    """The file that launchd reads."""
    home = service.account.home
    entries: dict[str, object] = {
        "Label": label(service.role.name),
        "ProgramArguments": list(service.command),
        "WorkingDirectory": str(service.folder),
        "EnvironmentVariables": {
            # launchd's own PATH lacks Homebrew and ~/.local, where uv may be.
            "PATH": f"/opt/homebrew/bin:/usr/local/bin:{home}/.local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(home),  # where settings begin with ~, and for ~/.aws
            "USER": service.account.name,
        },
        "RunAtLoad": True,
        # Exit code 0 stays away: it was told to leave, or gave up. See restarts.py.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": service.throttle,
        "ExitTimeOut": service.role.stop_seconds,
        # Without this macOS runs it as background work, on slow cores and with input and output held back.
        "ProcessType": "Interactive",
        "Umask": 0o077,  # pictures and logs are the owner's alone
        "StandardOutPath": str(service.log),
        "StandardErrorPath": str(service.log),
    }
    if not agent:
        # MLX needs no login session, so a daemon will do; but none of root's powers.
        entries["UserName"] = service.account.name
    text = plistlib.dumps(entries, sort_keys=False).decode()
    return text.replace("<plist ", f"{REMARK}\n<plist ", 1)


@dataclass(frozen=True)
class Launchd:
    """One user's agents, or the machine's daemons."""

    run: Runner
    account: Account
    agent: bool
    daemons: Path = DAEMONS

    title = property(lambda self: "LaunchAgent" if self.agent else "LaunchDaemon")

    @property
    def domain(self) -> str:
        """launchctl's word for where the service lives."""
        return f"gui/{self.account.uid}" if self.agent else "system"

    def target(self, name: str) -> str:
        """launchctl's word for the service."""
        return f"{self.domain}/{label(name)}"

    def path(self, name: str) -> Path:
        """Where its property list lies."""
        folder = self.account.home / "Library/LaunchAgents" if self.agent else self.daemons
        return folder / f"{label(name)}.plist"

    def log(self, name: str) -> Path | None:
        """Where its lines go."""
        return self.account.home / "Library/Logs/pixelkiln" / f"{name}.log"

    def files(self, service: Definition) -> list[File]:
        """What it needs beside the env file."""
        account, name = self.account, service.role.name
        log = self.log(name)
        assert log is not None
        made = [File(log.parent, 0o700, account)]
        if not log.exists():
            # Else launchd makes it, for whom depends, and ends with 78 where the user may not write to it.
            made.append(File(log, 0o600, account, ""))
        owner = account if self.agent else None
        return [*made, File(self.path(name), 0o644, owner, property_list(service, agent=self.agent))]

    def starting(self, name: str) -> list[tuple[str, ...]]:
        """The commands that load and start it."""
        return [
            ("launchctl", "enable", self.target(name)),
            ("launchctl", "bootstrap", self.domain, str(self.path(name))),
        ]

    def stopping(self, name: str) -> list[tuple[str, ...]]:
        """The commands that end and unload it."""
        return [("launchctl", "bootout", self.target(name))]

    def unchanged(self, service: Definition) -> bool:
        """Whether its file is there as it would be written."""
        return same(self.path(service.role.name), property_list(service, agent=self.agent))

    def state(self, name: str) -> State:
        """What launchd says of it."""
        answer = self.run("launchctl", "print", self.target(name))
        if answer.code == 0:
            return read_print(answer.out)
        if not self.path(name).exists():
            return State("not installed")
        if label(name) in disabled(self.run("launchctl", "print-disabled", self.domain).out):
            return State("disabled")
        return State("unloaded", said="" if _unknown(answer) else answer.said)

    def start(self, name: str, waiting: Waiting) -> None:
        """Load it and start it. Raises KilnError with what launchd's refusal means."""
        enable, bootstrap = self.starting(name)
        self.run(*enable)
        answers: list[Answer] = []

        def loaded() -> bool:
            answers.append(self.run(*bootstrap))
            return answers[-1].code not in {EIO, ALREADY, IN_PROGRESS} or self.state(name).known

        try:
            waiting.until(loaded, f"launchd lets go of {label(name)}", SETTLE)
        except KilnError:
            if answers[-1].code == 0:
                raise
            raise self.refusal(answers[-1]) from None
        if answers[-1].code not in {0, EIO, ALREADY, IN_PROGRESS}:
            raise self.refusal(answers[-1])
        started = f"the start of {label(name)}"
        waiting.until(lambda: self.state(name).name != "stopped" or self._ended(name), started, START)

    def _ended(self, name: str) -> bool:
        return self.state(name).code is not None

    def stop(self, name: str, waiting: Waiting) -> None:
        """End it and unload it, and wait until it is truly gone: bootout returns while the job still runs."""
        (bootout,) = self.stopping(name)
        answer = self.run(*bootout)
        if answer.code not in {0, NO_PROCESS, EIO, IN_PROGRESS, ALREADY, NO_SERVICE}:
            raise self.refusal(answer)
        bound = ROLES[name].stop_seconds + SLACK
        waiting.until(lambda: self._gone(name), f"the end of {label(name)}", bound)

    def remove(self, name: str) -> None:
        """Take its file away; what runs goes on until `stop`."""
        if self.agent:
            with acting_as(self.account):
                self.path(name).unlink(missing_ok=True)
        else:
            self.path(name).unlink(missing_ok=True)

    def owner(self, name: str) -> str | None:
        """The user that the installed file names; None where there is no such file or it names none."""
        try:
            entries = plistlib.loads(self.path(name).read_bytes())
            return str(entries["UserName"])
        except (OSError, ValueError, KeyError, TypeError, plistlib.InvalidFileException):
            return None

    def _gone(self, name: str) -> bool:
        answer = self.run("launchctl", "print", self.target(name))
        return _unknown(answer) or _no_domain(answer)

    def refusal(self, answer: Answer) -> KilnError:
        """What launchctl's refusal means, and what to do."""
        said = answer.said
        if "Operation not permitted" in said or "Permission denied" in said or answer.code in {1, 13}:
            return UsageError(f"launchctl may not do this for you ({said}); a daemon is root's: use sudo")
        if _no_domain(answer):
            return NotReadyError(
                f"{self.account.name} is not logged in at this Mac's screen, so no agent can run ({said}); "
                "log in there, or leave out --agent: a daemon needs no login; or it is turned off in "
                f"{BACKGROUND}"
            )
        if "ownership" in said or answer.code == 122:
            return KilnError(f"launchd does not trust the file ({said}); install it again")
        return KilnError(
            f"launchctl refuses ({said or answer.code}); it may be turned off in {BACKGROUND}, or see: "
            f"sudo launchctl print {self.domain}"
        )


def read_print(text: str) -> State:
    """The state in what `launchctl print` says of a service; blocks within it have states of their own."""
    lines = re.findall(r"^(?:\t| {1,4})(\w[^=\n{}]*?) = (.*)$", text, re.MULTILINE)
    found: dict[str, str] = dict(lines)
    state = found.get("state", "")
    code, number = _last_exit(found)
    pid = int(found["pid"]) if found.get("pid", "").isdecimal() else None
    restarts = max(0, int(found["runs"]) - 1) if found.get("runs", "").isdecimal() else 0
    if state == "running" and pid is not None:
        return State("running", pid, code, number, restarts)
    if state.startswith("SIG") or (pid is not None and state not in {"xpcproxy", "spawning"}):
        return State("stopping", pid, code, number, restarts, said=state)
    if state in {"spawn scheduled", "waiting", "xpcproxy", "spawning"} or code not in {0, None} or number:
        return State("waiting", pid, code, number, restarts, said=state)
    return State("stopped", None, code, number, restarts, said=state)


def _last_exit(found: dict[str, str]) -> tuple[int | None, int | None]:
    """Exit code and signal: `0`, `78: EX_CONFIG`, `(never exited)`; `Killed: 9`, which replaces the code."""
    signal = re.search(r"(\d+)$", found.get("last terminating signal", ""))
    if signal:
        return None, int(signal[1])
    code = re.match(r"(-?\d+)", found.get("last exit code", ""))
    return (int(code[1]) if code else None), None


def disabled(text: str) -> set[str]:
    """The labels that `launchctl print-disabled` calls disabled; before macOS 13 it called them true."""
    return set(re.findall(r'"([^"]+)" => (?:disabled|true)\b', text))


def _no_domain(answer: Answer) -> bool:
    return answer.code in {112, NO_DOMAIN} or "Could not find domain" in answer.err


def _unknown(answer: Answer) -> bool:
    return answer.code == NO_SERVICE or "Could not find service" in answer.err
