"""The commands that run a farm on this machine: to look at, or to use."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.table import Table

from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, err, out
from pixelkiln.jobs.commands.serve import needs_serve
from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.home import remembered
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.packages import needs_worker


@app.command()
def demo(as_json: JSON = False) -> None:
    """Render six postcards on this machine, from queue to bucket, and leave nothing running."""
    needs_worker()
    from pixelkiln.jobs.commands.progress import follow, worst
    from pixelkiln.worker.local.demo import PROMPTS, SEED, farm, rows, sheet
    from pixelkiln.worker.local.sheet import inline

    settings = Settings.here()
    renders = settings.renders_dir or Path("renders")
    with _terminable(), farm(settings, models=["demo"]) as running:
        run = secrets.token_hex(2)  # short ids make short paths
        jobs = running.kiln.submit_many(
            [{"prompt": prompt, "model": "demo", "seed": SEED} for prompt in PROMPTS],
            ids=[f"demo-{run}-{number}" for number in range(1, len(PROMPTS) + 1)],
        )
        ended = follow(running.kiln, {job.id: job.spec.prompt for job in jobs}, err, check=running.check)
        table = rows(running.kiln, ended, renders)
    if as_json:
        print(json.dumps(table, indent=1, ensure_ascii=False))
    else:
        shown = Table("prompt", "size", "s/step", "total s")
        finished = all(row["size"] for row in table)
        shown.add_column("picture", no_wrap=finished)  # paths stay whole; a reason for failing may wrap
        for row in table:
            shown.add_row(*row.values())
        out.print(shown)
        path = renders / f"demo-{run}.png"
        picture = sheet(table, path)
        if picture is not None:
            shown_inline = inline(picture, os.environ) if sys.stdout.isatty() else None
            if shown_inline:
                sys.stdout.write(shown_inline)
            out.print(f"all in one: {path}", soft_wrap=True)
        err.print("to render your own:   kiln up --worker   and open the address that it tells", markup=False)
    raise typer.Exit(worst(list(ended.values())))


@app.command()
def up(
    worker: Annotated[bool, typer.Option("--worker", help="Run a worker too.")] = False,
    serve: Annotated[bool, typer.Option(help="Run the HTTP server too, for this machine alone.")] = True,
) -> None:
    """Run Redis and S3 servers for this machine in the foreground, and the HTTP server, until Ctrl-C."""
    from pixelkiln.worker.local.demo import farm

    settings = Settings.here()
    if settings.redis_url is not None:
        raise UsageError("KILN_REDIS_URL is set, so other terminals would not look here; unset it")
    ended = threading.Event()
    with _terminable(), farm(settings, worker=worker) as running, ExitStack() as stack:
        if running.servers is not None:
            stack.enter_context(remembered(settings.home))
        err.print(f"running in {settings.home.absolute()}; Ctrl-C ends it", markup=False)
        if serve and running.servers is not None:  # else the `kiln up` whose servers they are has one
            _serve(settings, stack)
        err.print("in another terminal:  kiln worker   kiln submit -m demo 'a prompt' --out .", markup=False)
        while not ended.wait(0.5):
            running.check()


def _serve(settings: Settings, stack: ExitStack) -> None:
    try:
        needs_serve()
    except NotReadyError as error:
        err.print(f"without its page: {error}", markup=False, soft_wrap=True)
        return
    from pixelkiln.jobs.web.server import beside

    err.print(f"in a browser:         {stack.enter_context(beside(settings))}", markup=False)


class _terminable:  # noqa: N801 - reads as a word where it is used
    """SIGTERM ends the block as Ctrl-C does, so that what it started is ended too."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._interrupt)

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt
