"""The commands about batches as such: which there are, and their priority."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, cast, get_args

import typer
from rich.table import Table

from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.jobs.batches.standing import BatchStatus
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.about import bar, briefly, counts, remaining, span
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.naming import named
from pixelkiln.jobs.commands.output import JSON, out, print_json, print_table
from pixelkiln.jobs.errors import NoSuchJobError, UsageError
from pixelkiln.jobs.spec import Priority


@app.command()
def batches(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    as_json: JSON = False,
) -> None:
    """List this client's batches, the newest first; older ones than Redis knows are found by their names."""
    found = [batch.status() for batch in Kiln().batches(limit)]
    if as_json:
        print_json([one.as_dict() for one in found])
    elif not found:
        out.print("no batches yet; kiln batch FILE --name NAME submits one")
    else:
        due = any(one.deadline for one in found)
        table = Table("batch", "", "", "", "age", *(["deadline"] if due else []))
        for one in found:
            last = [briefly(one.deadline) if one.deadline else ""] if due else []
            table.add_row(one.name, bar(one), counts(one), remaining(one), _age(one), *last)
        print_table(table)


@app.command()
def priority(
    what: Annotated[str, typer.Argument(help="A batch by name, or a job.", metavar="NAME|ID")],
    level: Annotated[str, typer.Argument(help="high, normal or low.", metavar="PRIORITY")],
) -> None:
    """Give what waits of a batch, or a job that waits, another priority."""
    if level not in get_args(Priority):
        raise UsageError(f"{level[:40]!r} is not high, normal or low")
    kiln, wanted = Kiln(), cast(Priority, level)
    one = named(kiln, what)
    if isinstance(one, Batch):
        print(f"{one.name}  {level}: {one.prioritize(wanted):,} that wait")
        return
    was = kiln.queue.move([one], kiln.settings.client, wanted)[one]
    if was not in ("queued", "held"):
        raise NoSuchJobError(f"{one}: no job of this client waits by that id; it is {was}")
    print(f"{one}  {level}")


def _age(status: BatchStatus) -> str:
    try:
        return span((datetime.now(UTC) - datetime.fromisoformat(status.created)).total_seconds())
    except (ValueError, TypeError):
        return ""
