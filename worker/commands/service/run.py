"""What launchd and systemd start: a service's own process."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.instance import Instance
from pixelkiln.jobs.logs import JsonLines
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.packages import needs_worker
from pixelkiln.worker.commands.service.command import service
from pixelkiln.worker.commands.service.installation import record_path
from pixelkiln.worker.host import env_file
from pixelkiln.worker.host.account import Account
from pixelkiln.worker.host.log_file import Rotation
from pixelkiln.worker.host.restarts import GAVE_UP, hold

LOOKS, BETWEEN = 40, 0.5  # for servers that start beside the worker; seconds


@service.command(name="run", hidden=True)
def run(
    name: Annotated[str, typer.Argument(help="Which service.")],
    environment: Annotated[Path, typer.Option("--env-file", help="Its settings and secrets.")],
    model: Annotated[list[str] | None, typer.Option("--model", "-m")] = None,
    log: Annotated[Path | None, typer.Option("--log", help="The file its lines go to.")] = None,
    gave_up: Annotated[int, typer.Option("--gave-up", help="Exit code that is not restarted.")] = GAVE_UP,
) -> None:
    """Be the service; started by launchd or systemd."""

    def work() -> None:
        if name not in RUNS:
            raise UsageError(f"no service {name!r}; there are {', '.join(RUNS)}")
        os.environ |= env_file.read(environment, os.geteuid())
        RUNS[name](model or ())

    rotation = Rotation(log) if log is not None else None
    if rotation is not None:
        rotation.start()
    try:
        code = hold(work, record_path(Account.current(), name), _say, gave_up=gave_up)
    finally:
        if rotation is not None:
            rotation.stop()
    raise typer.Exit(code)


def _worker(models: Sequence[str]) -> None:
    needs_worker()
    from pixelkiln.worker.host.log import log_to_stderr
    from pixelkiln.worker.service import Service

    settings = Settings.load()
    log_to_stderr(as_json=settings.log == "json")
    await_servers(settings)
    Service(settings, models).run()


def await_servers(settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
    """Give the servers of this machine, which start at the same boot, the seconds that they take."""
    for _ in range(LOOKS):
        if settings.redis_url is not None or Instance.read(settings.home) is not None:
            return
        sleep(BETWEEN)


def _up(models: Sequence[str]) -> None:
    from pixelkiln.worker.commands.local import up
    from pixelkiln.worker.local.instance import running

    home = Settings.here().home.absolute()
    if running(home) is not None:
        raise NotReadyError(f"servers already run in {home}; end that `kiln up`, and these take over")
    up(worker=False, serve=True)


def _serve(models: Sequence[str]) -> None:
    from pixelkiln.jobs.commands.serve import serve

    await_servers(Settings.load())
    serve()


RUNS: dict[str, Callable[[Sequence[str]], None]] = {"worker": _worker, "up": _up, "serve": _serve}


def _say(text: str) -> None:
    if os.environ.get("KILN_LOG") == "json":
        record = logging.makeLogRecord({"name": "kiln.service", "levelname": "INFO", "msg": text})
        print(JsonLines().format(record), file=sys.stderr, flush=True)
        return
    stamp = "" if os.environ.get("INVOCATION_ID") else time.strftime("%Y-%m-%d %H:%M:%S ")  # systemd stamps
    print(f"{stamp}kiln: {text}", file=sys.stderr, flush=True)
