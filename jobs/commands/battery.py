"""The command that shows models side by side."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import err, out, parse_size
from pixelkiln.jobs.commands.progress import follow, worst


@app.command()
def battery(
    models: Annotated[
        str, typer.Option("--models", "-m", help="MODEL or MODEL:QUANTIZATION, several with commas between.")
    ],
    seeds: Annotated[str, typer.Option(help="1, 1-4 or 1,7: so many pictures of each prompt.")] = "1",
    size: Annotated[
        str | None, typer.Option("--size", "-s", help="WIDTHxHEIGHT in pixels; absent: each model's own.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The batch's; absent: battery- and the time.")] = None,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page to write; absent: NAME.html, here.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Watch until all have ended, and write the page.")] = True,
) -> None:
    """Render ten kinds of picture with each model, and write a page that shows them side by side."""
    from pixelkiln.jobs.batches.battery import parse_seeds, rows

    wanted = rows(models.split(","), parse_seeds(seeds), parse_size(size) if size else None)
    name = name or f"battery-{datetime.now():%Y%m%d-%H%M%S}"
    with Kiln() as kiln:
        batch = kiln.batch(wanted, name=name)
        err.print(
            f"{name}: {len(batch.entries):,} pictures; the page at any time: kiln report {name}",
            soft_wrap=True,
        )
        if not wait:
            out.print(name)
            return
        ended = follow(kiln, {entry.id: entry.prompt for entry in batch.entries}, err)
        path = target or Path(f"{name}.html")
        batch.report(path)
    out.print(str(path), soft_wrap=True)
    raise typer.Exit(worst(list(ended.values())))
