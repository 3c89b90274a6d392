"""The commands that look at services: what they do, how they ended, what they logged."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from pixelkiln.jobs.commands.output import JSON, out
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.plain import plain
from pixelkiln.worker.commands.service.command import Serve, Up, Worker, service
from pixelkiln.worker.commands.service.installation import Here, Manager, installed, named, record_path
from pixelkiln.worker.host.account import acting_as
from pixelkiln.worker.host.launchd import NETWORK, Launchd
from pixelkiln.worker.host.managed import State, running_for
from pixelkiln.worker.host.programs import stream
from pixelkiln.worker.host.restarts import Record
from pixelkiln.worker.host.systemd import unit

TAIL = 5  # lines of the log that status shows of a service that is not well
WELL = {"running", "stopping"}


@service.command()
def status(up: Up = False, serve: Serve = False, worker: Worker = False, as_json: JSON = False) -> None:
    """Tell what the services do, how they ended last and why. Exit code 0 if all run, else 3."""
    here = Here.found()
    names = named(up, serve, worker)
    found = installed(here, names)
    told = [_told(here, name, manager) for name, manager in found]
    if as_json:
        print(json.dumps(told, indent=1, ensure_ascii=False))
    elif not told:
        out.print("not installed; see kiln service install --help")
    else:
        for one in told:
            for line in _lines(one):
                out.print(plain(line), markup=False, soft_wrap=True)
    if not told or any(one["state"] != "running" for one in told):
        raise typer.Exit(3)


@service.command()
def logs(
    up: Up = False,
    serve: Serve = False,
    worker: Worker = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines.")] = 50,
) -> None:
    """Show the last lines of a service's log."""
    here = Here.found()
    names = named(up, serve, worker)
    if len(names) > 1:
        raise UsageError("one log at a time: --up, --serve or --worker")
    found = installed(here, names)
    if not found:
        raise UsageError("nothing is installed; see kiln service install --help")
    name, manager = next((one for one in found if one[0] == "worker"), found[0])
    log = manager.log(name)
    if log is None:
        words = ["journalctl", "--user", "-u", unit(name), "-n", str(lines), *(["-f"] if follow else [])]
        raise typer.Exit(stream(*words, "--no-pager"))
    if not log.exists():
        raise UsageError(f"{log} is not there yet")
    raise typer.Exit(stream("tail", "-n", str(lines), *(["-F"] if follow else []), str(log)))


def _told(here: Here, name: str, manager: Manager) -> dict[str, Any]:
    """What status says of one service; the JSON form."""
    state = manager.state(name)
    with acting_as(manager.account):
        record = Record.read(record_path(manager.account, name))
    seconds = running_for(here.run, state.pid) if state.pid is not None else None
    since = datetime.fromtimestamp(time.time() - seconds).astimezone() if seconds is not None else None
    reason = state.said if state.name == "unloaded" else ""
    means = state.last_exit
    if record is not None and state.name != "running":
        reason = record.reason or reason
        if record.gave_up:
            means = "it gave up, since trying again cannot help"
    if reason and "unreachable" in reason and isinstance(manager, Launchd) and manager.agent:
        reason += f"; {NETWORK}"
    log = manager.log(name)
    shown: dict[str, Any] = {
        "service": name,
        "kind": manager.title,
        "state": _state_word(state, record),
        "pid": state.pid,
        "since": since.isoformat(timespec="seconds") if since else None,
        "restarts": state.restarts,
        "last_exit": {"code": state.code, "signal": state.signal, "meaning": means},
        "reason": reason,
        "file": str(manager.path(name)),
        "log": str(log) if log else f"journalctl --user -u {unit(name)}",
        "last_lines": [],
    }
    if state.name not in WELL and log is not None:
        with acting_as(manager.account):
            shown["last_lines"] = _tail(log)
    return shown


def _state_word(state: State, record: Record | None) -> str:
    """`stopped` by itself does not tell a worker that was drained from one that gave up."""
    if state.name in {"stopped", "failed"} and record is not None and record.gave_up:
        return "gave up"
    return "crashed" if state.name == "failed" else state.name


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16384))
            return file.read().decode(errors="replace").splitlines()[-TAIL:]
    except OSError:
        return []


def _lines(told: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [f"{told['service']}  {told['state']}  ({told['kind']})"]
    if told["pid"] is not None:
        lines.append(f"  process    {told['pid']}" + (f" since {told['since']}" if told["since"] else ""))
    exit_ = told["last_exit"]
    if exit_["meaning"]:
        what = f"signal {exit_['signal']}" if exit_["signal"] else f"exit code {exit_['code']}"
        lines.append(f"  last exit  {what}: {exit_['meaning']}")
    if told["reason"]:
        lines.append(f"  reason     {told['reason']}")
    mends = {
        "gave up": "mend that, then:  kiln service restart",
        "stopped": "to start it:  kiln service restart",
        "unloaded": "it starts at the next boot or login; now:  kiln service restart",
        "disabled": "to enable and start it:  kiln service restart",
        "crashed": "to start it:  kiln service restart",
    }
    if told["state"] in mends:
        lines.append(f"  mend       {mends[told['state']]}")
    lines.append(f"  log        {told['log']}")
    return lines + [f"    {line}" for line in told["last_lines"]]
