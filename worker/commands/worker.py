"""The commands that work: take jobs and render them; give back those of dead workers."""

from __future__ import annotations

import json
from time import sleep
from typing import Annotated

import typer

from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, LogJson, out
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.packages import needs_worker


@app.command(name="worker")
def worker_command(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Serve only these.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
    log_json: LogJson = False,
) -> None:
    """Take jobs and render them, one at a time, until told to leave."""
    needs_worker()
    import logging

    from pixelkiln.worker.host.log import log_to_stderr
    from pixelkiln.worker.service import Service

    settings = Settings.load()
    level = logging.DEBUG if verbose else logging.INFO
    log_to_stderr(level, as_json=log_json or settings.log == "json")
    Service(settings, model or ()).run()


@app.command()
def reap(as_json: JSON = False) -> None:
    """Give back the jobs of dead workers, as every live worker does: for a farm whose workers are all gone.

    Takes 10 s, in which workers that live can renew what they hold.
    """
    from pixelkiln.jobs.queue.connection import connect, explained
    from pixelkiln.worker.queue.claims import Claims
    from pixelkiln.worker.queue.heartbeat import GRACE
    from pixelkiln.worker.queue.server_clock import ServerClock

    settings = Settings.load()
    claims = Claims(connect(settings), "kiln-reap", days=settings.result_days)
    with explained(settings):
        clock = ServerClock(claims.connection)
        clock.step()
        sleep(GRACE)
        while clock.step():
            sleep(GRACE)
        back = claims.reap(clock)
        claims.recover()
    if as_json:
        print(json.dumps({"queued": back}))
    else:
        for job_id in back:
            out.print(f"{job_id}  queued again", markup=False)
