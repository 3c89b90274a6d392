"""A service as a user unit of systemd: its file, and systemctl's answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelkiln.jobs.errors import KilnError, NotReadyError
from pixelkiln.worker.host.account import Account
from pixelkiln.worker.host.managed import ROLES, Definition, File, State, Waiting, same
from pixelkiln.worker.host.programs import NOT_FOUND, Answer, Runner
from pixelkiln.worker.host.restarts import GAVE_UP

PROPERTIES = "LoadState,ActiveState,SubState,MainPID,ExecMainCode,ExecMainStatus,NRestarts,UnitFileState"
KILLED = {"2", "3"}  # ExecMainCode: by a signal, with a core dump; 1 is an exit, 0 none yet
START = 10.0  # seconds in which a service that was started should have a process
SLACK = 30.0  # seconds beyond the time to stop in which systemd should have killed it


def unit(name: str) -> str:
    """systemd's name of the service."""
    return f"pixelkiln-{name}.service"


def unit_file(service: Definition) -> str:
    """The text of a service's unit file."""
    return f"""\
# Written by `kiln service install`, which writes it anew. Secrets are in the env file that ExecStart names.
[Unit]
Description={service.role.description}
# It is tried again for as long as its servers are away.
StartLimitIntervalSec=0

[Service]
WorkingDirectory={_escaped(str(service.folder))}
ExecStart={_command_line(service.command)}
UMask=0077

# 0: it was told to leave; {GAVE_UP}: trying again cannot help; 2: wrong use of the command.
Restart=on-failure
RestartSec={service.throttle}
RestartPreventExitStatus=2 {GAVE_UP}

# SIGTERM finishes the running job. Only the main process gets it: its children end with it.
KillMode=mixed
TimeoutStopSec={service.role.stop_seconds}

[Install]
WantedBy=default.target
"""


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _command_line(command: tuple[str, ...]) -> str:
    # systemd reads the first word by other rules: no quotes, backslashes or $ in the program's path.
    odd = set(command[0]) & set("$\"'\\")
    return " ".join(_word(word) for word in (("/usr/bin/env", *command) if odd else command))


def _word(word: str) -> str:
    """One word of ExecStart, in which %, $, quotes and backslashes have meanings."""
    text = _escaped(word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$"))
    return text if text and not set(text) & set(" \t;'\"\\") else f'"{text}"'


@dataclass(frozen=True)
class Systemd:
    """The user's own service manager."""

    run: Runner
    account: Account

    title = "systemd user unit"

    def path(self, name: str) -> Path:
        """Where its unit lies."""
        return self.account.home / ".config/systemd/user" / unit(name)

    def log(self, name: str) -> Path | None:
        """None: journald has its lines."""
        return None

    def files(self, service: Definition) -> list[File]:
        """What it needs beside the env file."""
        return [File(self.path(service.role.name), 0o644, self.account, unit_file(service))]

    def starting(self, name: str) -> list[tuple[str, ...]]:
        """The commands that load and start it."""
        return [
            ("systemctl", "--user", "daemon-reload"),
            ("systemctl", "--user", "enable", unit(name)),
            ("systemctl", "--user", "start", "--no-block", unit(name)),
        ]

    def stopping(self, name: str) -> list[tuple[str, ...]]:
        """The commands that end it."""
        return [("systemctl", "--user", "stop", "--no-block", unit(name))]

    def unchanged(self, service: Definition) -> bool:
        """Whether its file is there as it would be written."""
        return same(self.path(service.role.name), unit_file(service))

    def state(self, name: str) -> State:
        """What systemd says of it."""
        answer = self.run("systemctl", "--user", "show", unit(name), "-p", PROPERTIES)
        if answer.code != 0:
            if not self.path(name).exists():
                return State("not installed")
            return State("unloaded", said=answer.said)
        return read_show(answer.out, self.path(name).exists())

    def start(self, name: str, waiting: Waiting) -> None:
        """Enable it and start it. Raises KilnError with what systemd's refusal means."""
        for command in self.starting(name):
            self._do(*command)
        waiting.until(
            lambda: self.state(name).name in {"running", "waiting", "failed", "stopped"},
            f"the start of {unit(name)}",
            START,
        )

    def stop(self, name: str, waiting: Waiting) -> None:
        """End it and wait until it is gone."""
        (command,) = self.stopping(name)
        answer = self.run(*command)
        if answer.code != 0 and "not loaded" not in answer.said:
            raise self.refusal(answer)
        bound = ROLES[name].stop_seconds + SLACK
        waiting.until(
            lambda: self.state(name).name not in {"running", "stopping"}, f"the end of {unit(name)}", bound
        )
        self.run("systemctl", "--user", "reset-failed", unit(name))  # else one that is gone is still listed

    def remove(self, name: str) -> None:
        """Take its file away; what runs goes on until `stop`."""
        self.run("systemctl", "--user", "disable", unit(name))  # while there is a file, else its link stays
        self.path(name).unlink(missing_ok=True)
        self.run("systemctl", "--user", "daemon-reload")

    def lingers(self) -> bool | None:
        """Whether the user's services run while nobody is logged in; None where that cannot be told."""
        answer = self.run("loginctl", "show-user", self.account.name, "-p", "Linger", "--value")
        return answer.out.strip() == "yes" if answer.code == 0 else None

    def _do(self, *command: str) -> None:
        answer = self.run(*command)
        if answer.code != 0:
            raise self.refusal(answer)

    def refusal(self, answer: Answer) -> KilnError:
        """What systemctl's refusal means, and what to do."""
        if answer.code == NOT_FOUND:
            return NotReadyError("this machine has no systemd; run `kiln worker` under what it has instead")
        if "connect to bus" in answer.said or "XDG_RUNTIME_DIR" in answer.said:
            return NotReadyError(
                f"systemd has no session of {self.account.name} here ({answer.said}); log in as that user, "
                f"by ssh rather than su, or run: sudo loginctl enable-linger {self.account.name}"
            )
        return KilnError(f"systemctl refuses: {answer.said[:300]}")


def read_show(text: str, installed: bool) -> State:
    """The state in what `systemctl show` prints, a property a line."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    status = int(found["ExecMainStatus"]) if found.get("ExecMainStatus", "").isdecimal() else 0
    how = found.get("ExecMainCode", "0")
    code = status if how == "1" else None
    number = status if how in KILLED else None
    pid = int(found["MainPID"]) if found.get("MainPID", "0") not in {"", "0"} else None
    restarts = int(found["NRestarts"]) if found.get("NRestarts", "").isdecimal() else 0
    active = found.get("ActiveState", "")
    if found.get("LoadState") == "masked":
        return State("disabled")
    if active in {"active", "reloading"}:
        return State("running", pid, restarts=restarts)
    if active == "deactivating":
        return State("stopping", pid, restarts=restarts)
    if found.get("LoadState") == "not-found":
        return State("unloaded" if installed else "not installed")
    if active == "activating":
        return State("waiting", pid, code, number, restarts)
    if active == "failed":
        return State("failed", None, code, number, restarts)
    if found.get("UnitFileState") == "disabled":
        return State("disabled", code=code, signal=number)
    return State("stopped", None, code, number, restarts)
