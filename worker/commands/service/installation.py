"""What `kiln service install` would do: the services, their files, and what is wrong with where they are."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pixelkiln
from pixelkiln.jobs.commands.output import err
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.host import env_file
from pixelkiln.worker.host.account import Account, acting_as
from pixelkiln.worker.host.folders import Place, badly_placed
from pixelkiln.worker.host.launchd import DAEMONS, Launchd
from pixelkiln.worker.host.managed import ROLES, Definition, File, Waiting
from pixelkiln.worker.host.programs import Runner, run
from pixelkiln.worker.host.restarts import GAVE_UP
from pixelkiln.worker.host.systemd import Systemd

Manager = Launchd | Systemd


def tell(text: str) -> None:
    """A line for whoever watches."""
    err.print(f"kiln: {text}", markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Here:
    """This machine, as far as services are concerned."""

    platform: str
    euid: int
    environ: Mapping[str, str]
    run: Runner = run
    waiting: Waiting = field(default_factory=lambda: Waiting(tell))
    daemons: Path = DAEMONS

    @classmethod
    def found(cls) -> Here:
        """The one that runs this."""
        return cls(sys.platform, os.geteuid(), os.environ)

    def manager(self, account: Account, *, agent: bool = False) -> Manager:
        """What starts services here. Raises UsageError where that is neither launchd nor systemd."""
        if self.platform == "darwin":
            return Launchd(self.run, account, agent, self.daemons)
        if self.platform == "linux":
            return Systemd(self.run, account)
        raise UsageError(f"no services on {self.platform}; run `kiln worker` under what it has instead")

    def managers(self, account: Account) -> list[Manager]:
        """All that could have a service of this user here."""
        both = [self.manager(account)]
        return [*both, self.manager(account, agent=True)] if self.platform == "darwin" else both

    def may_change(self, manager: Manager) -> bool:
        """Whether this user may install into it."""
        return self.euid == 0 or not isinstance(manager, Launchd) or manager.agent

    def sudo(self) -> str:
        """The same command with root's rights. Without -B root would leave its own files in the checkout."""
        return shlex.join(["sudo", sys.executable, "-BP", "-m", "pixelkiln", *sys.argv[1:]])


@dataclass(frozen=True)
class Plan:
    """All that an installation writes."""

    manager: Manager
    definitions: list[Definition]
    environment: Path
    names: list[str]  # of the variables that the env file will have
    changed: list[str]  # those of them that are new or others
    common: list[File]
    settings: Settings
    places: list[Place]


def checkout() -> Path | None:
    """The checkout that this runs from, with its launcher; None where the package is installed."""
    root = Path(pixelkiln.__file__).parents[1]
    return root if (root / "kiln").is_file() and Path(sys.prefix) == root / ".venv" else None


def program() -> list[str]:
    """The command `kiln` for a service: the launcher, which renews the environment after an update."""
    root = checkout()
    return [str(root / "kiln")] if root else [sys.executable, "-P", "-m", "pixelkiln"]


def record_path(account: Account, name: str) -> Path:
    """Where a service notes how it ended."""
    return account.home / ".local/state/pixelkiln" / f"{name}.json"


def plan(
    here: Here,
    account: Account,
    names: Sequence[str],
    *,
    agent: bool,
    folder: Path | None,
    environment: Path | None,
    models: Sequence[str],
) -> Plan:
    """See Plan. Raises UsageError where a setting is wrong, so that no service starts to find that out."""
    manager = here.manager(account, agent=agent)
    folder = (folder or checkout() or account.home).expanduser().absolute()
    if not folder.is_dir():
        raise UsageError(f"--folder: {folder} is not a folder")
    environment = (environment or env_file.default_path(account.home)).expanduser().absolute()
    with acting_as(account):
        before = env_file.existing(environment, account.uid)
        caught = env_file.captured(here.environ, Path.cwd())
        text, changed = env_file.merged(before if before is not None else env_file.HEAD, caught, environment)
        variables = env_file.parse(text, environment)
        with _as_the_service(folder, variables, account):
            settings = Settings.here()
    if "up" in names and settings.redis_url is not None:
        raise UsageError(
            f"--up brings its own servers; take KILN_REDIS_URL, which names others, out of {environment} "
            "or kiln.toml"
        )
    common = [File(record_path(account, "").parent, 0o700, account)]
    if text != before:
        shown = ", ".join(variables) or "no variables"
        common.append(File(environment, 0o600, account, text, f"{shown} (values are not shown)"))
    root = checkout()
    folders = {
        "checkout": root if root else Path(sys.prefix),
        "folder": folder,
        "models": settings.models_dir,
        "spool": settings.spool_dir,
        "cache": settings.cache_dir,
        "home": settings.home,
        "env file": environment,
    }
    if settings.renders_dir is not None:
        folders["renders"] = settings.renders_dir
    folders = {used_for: folder / _at_home(path, account) for used_for, path in folders.items()}
    places = badly_placed(folders, account.home, here.platform, agent=agent)
    definitions = [
        Definition(
            ROLES[name],
            account,
            tuple(command_of(name, environment, manager, models if name == "worker" else ())),
            folder,
            manager.log(name),
        )
        for name in names
    ]
    return Plan(manager, definitions, environment, list(variables), changed, common, settings, places)


def command_of(name: str, environment: Path, manager: Manager, models: Sequence[str]) -> list[str]:
    """The service's command line."""
    words = [*program(), "service", "run", name, "--env-file", str(environment)]
    log = manager.log(name)
    if log is not None:
        words += ["--log", str(log)]
    # launchd starts again what ends with anything but 0.
    words += ["--gave-up", "0" if isinstance(manager, Launchd) else str(GAVE_UP)]
    return words + [word for model in models for word in ("--model", model)]


def named(up: bool, serve: bool, worker: bool) -> list[str]:
    """The servers come first: the others need them."""
    return [name for name, wanted in (("up", up), ("serve", serve), ("worker", worker)) if wanted]


def installed(here: Here, names: Sequence[str]) -> list[tuple[str, Manager]]:
    """The services that are there, by file or in the system's memory; of those named, if any are."""
    account = Account.current() if here.euid else _behind(here)
    found: list[tuple[str, Manager]] = []
    for name in names or ROLES:
        for manager in here.managers(account):
            if isinstance(manager, Launchd) and not manager.agent:
                owner = manager.owner(name)
                if owner is not None and owner != account.name:
                    manager = Launchd(here.run, Account.named(owner), False, here.daemons)
            if manager.path(name).exists() or manager.state(name).known:
                found.append((name, manager))
    return found


def _behind(here: Here) -> Account:
    name = here.environ.get("SUDO_USER")
    return Account.named(name) if name else Account.current()


def _at_home(path: Path, account: Account) -> Path:
    return account.home.joinpath(*path.parts[1:]) if path.parts[:1] == ("~",) else path


@contextlib.contextmanager
def _as_the_service(folder: Path, variables: Mapping[str, str], account: Account) -> Iterator[None]:
    """Within: the folder, variables and home that the service will have."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("KILN_"):
            del os.environ[name]
    os.environ |= {**variables, "HOME": str(account.home)}
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
