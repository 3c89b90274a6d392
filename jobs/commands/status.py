"""The commands that tell how jobs and the farm fare, and bring pictures home."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from pixelkiln.jobs.batches.windows import shown, zone_of
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.farm import show
from pixelkiln.jobs.commands.output import JSON, Out, out, print_json
from pixelkiln.jobs.commands.progress import follow, worst
from pixelkiln.jobs.queue.status import JobStatus


@app.command()
def status(
    ids: Annotated[list[str] | None, typer.Argument(help="Jobs; none: the farm.", metavar="[ID]")] = None,
    whole: Annotated[bool, typer.Option("--all", help="Every lane and worker, however many.")] = False,
    as_json: JSON = False,
) -> None:
    """Tell how jobs fare, or what waits and who works; of many lanes, totals and the busiest."""
    kiln = Kiln()
    if not ids:
        farm = kiln.farm()
        if as_json:
            print_json(farm.as_dict())
        else:
            show(farm, whole)
        return
    found = [kiln.status(job_id) for job_id in ids]
    if as_json:
        print_json([one.as_dict() for one in found] if len(found) > 1 else found[0].as_dict())
        return
    for one in found:
        out.print(_describe(one, kiln.settings.zone), markup=False)


@app.command()
def watch(
    ids: Annotated[list[str], typer.Argument(help="Jobs.", metavar="ID")], as_json: JSON = False
) -> None:
    """Follow jobs until they have ended; with --json, a line for every change."""
    kiln = Kiln()
    if as_json:
        last = {}
        for one in kiln.watch(ids):
            print(json.dumps(one.as_dict()), flush=True)
            last[one.id] = one
    else:
        last = follow(kiln, {job_id: job_id for job_id in ids}, out)
    raise typer.Exit(worst(list(last.values())))


@app.command()
def fetch(
    ids: Annotated[list[str], typer.Argument(help="Finished jobs.", metavar="ID")],
    folder: Out = Path(),
    as_json: JSON = False,
) -> None:
    """Bring pictures and sidecars home as ID.png and ID.json, checksums compared."""
    kiln = Kiln()
    paths = [str(kiln.fetch(job_id, folder)) for job_id in ids]
    if as_json:
        print_json([{"id": job_id, "png": path} for job_id, path in zip(ids, paths, strict=True)])
    else:
        for path in paths:
            print(path)


def _describe(status: JobStatus, zone: str | None) -> str:
    words = [status.id, status.state]
    if status.not_before:
        due = datetime.fromisoformat(status.not_before)
        words.append(f"waits until {shown(due, datetime.now(UTC), zone_of(zone))}")
    elif status.waits:
        words.append(f"waits {status.waits}")
    if status.phase:
        words.append(f"{status.phase} {status.step}/{status.steps}" if status.steps else status.phase)
    if status.attempt > 1:
        words.append(f"attempt {status.attempt}")
    if status.worker and not status.ended:
        words.append(f"on {status.worker}")
    if status.unheeded:
        words.append(f"not done here: {', '.join(status.unheeded)}")
    if status.error:
        words.append(status.error)
    if status.result:
        words.append(status.result.png)
    return "  ".join(words)
