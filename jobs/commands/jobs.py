"""The commands that list jobs, try them again, and store references."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.table import Table

from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.jobs.batches.door import Retried
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.naming import PARTLY, each, end, named
from pixelkiln.jobs.commands.output import JSON, err, out, print_json, print_table
from pixelkiln.jobs.commands.progress import doubts
from pixelkiln.jobs.errors import KilnError, UsageError
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.status import JobStatus, State

_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_LEFT: dict[Retried, str] = {  # what a job was that is not tried again
    "queued": "waits already",
    "held": "waits already, paused",
    "deferred": "waits already, for another",
    "started": "is being rendered",
    "finished": "has finished; --again renders it anew and replaces its picture",
    "unknown": "no such job",
    "foreign": "another client's; --any-client tries it again",
}


@app.command()
def jobs(
    state: Annotated[str | None, typer.Option(help="queued, started, finished, failed or cancelled.")] = None,
    batch: Annotated[str | None, typer.Option(help="Of this batch.", metavar="NAME")] = None,
    suspicious: Annotated[
        bool, typer.Option("--suspicious", help="Of a batch those whose pictures the checks find fault with.")
    ] = False,
    client: Annotated[str | None, typer.Option(help="Of this client; absent: KILN_CLIENT.")] = None,
    any_client: Annotated[bool, typer.Option("--any-client", help="Of all clients.")] = False,
    since: Annotated[
        str | None, typer.Option(help="No longer ago than, for instance, 30m, 2h or 3d.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many.")] = 50,
    as_json: JSON = False,
) -> None:
    """List jobs by what last happened to them, the newest first."""
    if suspicious and batch is None:
        raise UsageError("--suspicious: name a batch, whose jobs are all looked at: --batch NAME")
    kiln, span = Kiln(), None if since is None else _span(since)
    wanted = cast("State | None", state)
    if batch is None:
        found = kiln.jobs(state=wanted, client=None if any_client else client or "", since=span, limit=limit)
    else:
        found = kiln.open_batch(batch).jobs(state=wanted, suspicious=suspicious, since=span, limit=limit)
    if as_json:
        print_json([one.as_dict() for one in found])
        return
    if not found:
        out.print("no such jobs")
        return
    table = Table("job", "state", "when", "try", "worker", "lane", "why")
    for one in found:
        what = "paused" if one.held else one.state
        why = one.error or doubts(one)
        table.add_row(one.id, what, _when(one)[:19], str(one.attempt or ""), one.worker, one.lane, why)
    print_table(table)


@app.command()
def retry(
    what: Annotated[
        list[str] | None, typer.Argument(help="Jobs, or batches by name.", metavar="ID|NAME")
    ] = None,
    batch: Annotated[list[str] | None, typer.Option(help="A batch.", metavar="NAME")] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Of batches only what failed; else all without a picture.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="What has finished, too: its picture is replaced.")
    ] = False,
    any_client: Annotated[bool, typer.Option("--any-client", help="Other clients' jobs, too.")] = False,
    as_json: JSON = False,
) -> None:
    """Render jobs again that failed or were cancelled, under the same ids."""
    names = [*(what or []), *(f"batch:{name}" for name in batch or [])]
    if not names:
        raise UsageError("name jobs or batches: kiln retry ID, or kiln retry --batch NAME --failed")
    if failed and again:
        raise UsageError("--failed and --again: what failed has no picture to replace; give one of them")
    kiln = Kiln()
    answers: dict[str, Retried] = {}

    def act(text: str) -> None:
        one = named(kiln, text)
        if isinstance(one, Batch):
            answers.update(one.retry_failed() if failed else one.retry(again=again))
        else:
            answers.update(kiln.retry([one], again=again, any_client=any_client))

    done, faults = each(names, act)
    if as_json:
        print_json(answers)
    else:
        for job_id, was in answers.items():
            print(f"{job_id}  {_LEFT.get(was, 'again')}")
    if done and not answers:
        err.print("kiln: nothing is there to try again")
    left = [was for was in answers.values() if was in {"unknown", "foreign", "finished"}]
    if left and not faults:
        raise typer.Exit(PARTLY if len(left) < len(answers) else KilnError.exit_code)
    end([was for was in answers.values() if was not in left], faults)


@app.command()
def upload(
    files: Annotated[list[Path], typer.Argument(help="Pictures.", metavar="FILE")], as_json: JSON = False
) -> None:
    """Store reference pictures, once by content, and print the names that specs call them by (sha256)."""
    kiln = Kiln()

    def act(path: Path) -> tuple[str, str]:
        name = kiln.upload(path)
        if not as_json:
            print(f"{name}  {plain(str(path))}")
        return str(path), name

    done, faults = each(files, act)
    if as_json:
        print_json([{"file": path, "sha256": name} for path, name in done])
    end(done, faults)


def _when(status: JobStatus) -> str:
    """When something last happened to it."""
    return status.ended_at or status.started_at or status.submitted_at


def _span(text: str) -> timedelta:
    found = _SPAN.fullmatch(text.strip())
    if not found:
        raise UsageError(f"--since: {text[:40]!r} is not a time as 30m, 2h or 3d")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
