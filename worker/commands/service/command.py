"""The commands that make a worker, or this machine's servers, a service of the system's.

On macOS a LaunchDaemon, which needs no login and reaches the local network, or with --agent a LaunchAgent for
a desk; on Linux a user unit of systemd. None of it has run on a Mac yet: it is written to public transcripts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import out
from pixelkiln.jobs.errors import UsageError
from pixelkiln.worker.commands.service.installation import (
    Here,
    Manager,
    Plan,
    installed,
    named,
    plan,
    record_path,
    tell,
)
from pixelkiln.worker.host.account import Account, acting_as, chosen
from pixelkiln.worker.host.launchd import NETWORK, Launchd
from pixelkiln.worker.host.managed import Definition, File, running_for
from pixelkiln.worker.host.systemd import Systemd

service = typer.Typer(help="Run a worker as a service of macOS or Linux.", no_args_is_help=True)
app.add_typer(service, name="service")

Up = Annotated[bool, typer.Option("--up", help="The servers of `kiln up`.")]
Serve = Annotated[bool, typer.Option("--serve", help="The HTTP server of `kiln serve`.")]
Worker = Annotated[bool, typer.Option("--worker", help="The worker.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print files and commands; change nothing.")]


@service.command()
def install(
    up: Up = False,
    serve: Serve = False,
    worker: Worker = False,
    agent: Annotated[
        bool, typer.Option("--agent", help="macOS: for a desk; runs while you are logged in.")
    ] = False,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Serve only these.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="macOS: whose daemon it is.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Where kiln.toml and .kiln are.")] = None,
    environment: Annotated[
        Path | None, typer.Option("--env-file", help="Settings and secrets; ~/.config/pixelkiln/env.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Install the worker (or with --up, --serve the servers) as a service: it starts now and at every boot.

    An agent, or a systemd unit without lingering, starts at login instead. KILN_* and AWS_* variables that
    are set now go into the env file, which only you can read. Installing again is harmless; what changed is
    put in force after the running job.
    """
    here = Here.found()
    if unknown := sorted(set(model or ()) - CATALOGUE.keys()):
        raise UsageError(f"--model: no model {unknown[0]!r}; there are {', '.join(CATALOGUE)}")
    own = agent or here.platform != "darwin"
    if own and here.euid == 0 and here.environ.get("SUDO_USER"):
        raise UsageError("this is your own service, not root's: run it without sudo")
    if own and user is not None:
        raise UsageError("--user is for macOS's daemons")
    account = Account.current() if own else chosen(user, here.euid, here.environ)
    planned = plan(
        here,
        account,
        named(up, serve, worker) or ["worker"],
        agent=agent,
        folder=folder,
        environment=environment,
        models=model or (),
    )
    refused = [place for place in planned.places if place.severity == "refused"]
    for place in planned.places:
        tell(f"{place.severity}: {place}")
    if refused:
        raise UsageError("nothing was installed: see above for what to move where")
    if not planned.names:
        tell(f"no settings are known: none are set here, and {planned.environment} has none")
    if agent and here.platform == "darwin":
        tell(f"an agent: {NETWORK}")
    if dry_run:
        _show(planned)
        return
    if not here.may_change(planned.manager):
        if all(_settled(here, planned, one) for one in planned.definitions):
            tell("installed and running already, unchanged; new code needs kiln service restart")
            return
        _keep(planned)
        _show(planned)
        raise UsageError(f"a daemon is installed by root, to do the above; run:\n  {here.sudo()}")
    _other_kind_away(here, planned)
    _keep(planned)
    for definition in planned.definitions:
        _put(here, planned, definition)
    if isinstance(planned.manager, Systemd) and planned.manager.lingers() is False:
        tell(f"it ends when you log out; to keep it:  sudo loginctl enable-linger {account.name}")


@service.command()
def uninstall(up: Up = False, serve: Serve = False, worker: Worker = False, dry_run: DryRun = False) -> None:
    """Let the running job end, and remove the services (or the one named). Settings and logs stay."""
    here = Here.found()
    found = installed(here, named(up, serve, worker))
    if not found:
        tell("nothing is installed")
        return
    for name, manager in reversed(found):  # the worker before the servers that it needs
        if dry_run:
            out.print(f"would remove {manager.path(name)}", markup=False, soft_wrap=True)
            _commands(manager.stopping(name))
            continue
        _permitted(here, manager)
        manager.remove(name)
        manager.stop(name, here.waiting)
        tell(f"{name} is uninstalled; its settings and logs are left")


@service.command()
def restart(up: Up = False, serve: Serve = False, worker: Worker = False) -> None:
    """Let the running job end, and start the services (or the one named) anew."""
    here = Here.found()
    found = installed(here, named(up, serve, worker))
    if not found:
        raise UsageError("nothing is installed; see kiln service install --help")
    for name, manager in found:
        _permitted(here, manager)
        _anew(here, manager, name)


def _permitted(here: Here, manager: Manager) -> None:
    if not here.may_change(manager):
        raise UsageError(f"a daemon is root's; run:\n  {here.sudo()}")


def _other_kind_away(here: Here, planned: Plan) -> None:
    """An agent and a daemon of one name would render from one spool: only one may be installed."""
    manager = planned.manager
    if not isinstance(manager, Launchd):
        return
    other = Launchd(here.run, manager.account, not manager.agent, here.daemons)
    for definition in planned.definitions:
        name = definition.role.name
        if not other.path(name).exists():
            continue
        if not here.may_change(other):
            raise UsageError(f"a daemon {name} is installed already; first:  sudo kiln service uninstall")
        tell(f"the {other.title} {name} makes way for the {manager.title}")
        other.remove(name)
        other.stop(name, here.waiting)


def _keep(planned: Plan) -> None:
    """Write what is the user's own."""
    for file in planned.common:
        file.write()
    if planned.changed:
        tell(f"kept in {planned.environment}: {', '.join(planned.changed)}")


def _put(here: Here, planned: Plan, definition: Definition) -> None:
    manager, name = planned.manager, definition.role.name
    if _settled(here, planned, definition):
        tell(f"{name} is installed and runs already, unchanged; new code needs kiln service restart")
        return
    for file in manager.files(definition):
        file.write()
    _anew(here, manager, name)


def _settled(here: Here, planned: Plan, definition: Definition) -> bool:
    """Whether it runs as it would be installed, begun after the last change of its settings."""
    state = planned.manager.state(definition.role.name)
    if planned.changed or state.name != "running" or not planned.manager.unchanged(definition):
        return False
    seconds = running_for(here.run, state.pid) if state.pid is not None else None
    try:
        written = planned.environment.stat().st_mtime
    except OSError:
        return False
    return seconds is None or time.time() - seconds >= written - 1  # ps tells whole seconds


def _anew(here: Here, manager: Manager, name: str) -> None:
    if manager.state(name).known:
        manager.stop(name, here.waiting)
    with acting_as(manager.account):
        record_path(manager.account, name).unlink(missing_ok=True)  # how it ended before is no matter now
    manager.start(name, here.waiting)
    state = manager.state(name)
    process = f", process {state.pid}" if state.pid else ""
    tell(f"{name} ({manager.title}): {state.name}{process}; see kiln service status, kiln service logs -f")


def _show(planned: Plan) -> None:
    for file in [*planned.common, *(f for d in planned.definitions for f in planned.manager.files(d))]:
        _show_file(file)
    for definition in planned.definitions:
        if planned.manager.state(definition.role.name).known:
            _commands(planned.manager.stopping(definition.role.name))
        _commands(planned.manager.starting(definition.role.name))


def _show_file(file: File) -> None:
    owner = file.owner.name if file.owner else "root"
    kind = "make folder" if file.content is None else "write"
    out.print(f"would {kind} {file.path} (mode {file.mode:04o}, owner {owner})", markup=False, soft_wrap=True)
    for line in (file.secret or file.content or "").splitlines():
        out.print(f"    {line}", markup=False, soft_wrap=True)


def _commands(commands: Sequence[Sequence[str]]) -> None:
    for words in commands:
        out.print(f"would run {' '.join(words)}", markup=False, soft_wrap=True)
