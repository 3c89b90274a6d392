"""The commands that tell what became of a batch, and delete what is needed no more."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, get_args

import typer

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, err, out, print_json
from pixelkiln.jobs.errors import UsageError


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="A batch.", metavar="NIGHT")],
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; absent: NIGHT.html, here.")
    ] = None,
    kind: Annotated[str, typer.Option("--format", "-f", help="html, markdown or json.")] = "html",
    pictures: Annotated[
        Path | None, typer.Option(help="Where they were brought: the page's thumbnails open them.")
    ] = None,
) -> None:
    """Write what became of a batch as one file: a page with thumbnails, Markdown or JSON."""
    from pixelkiln.jobs.batches.report.writing import SUFFIXES, Format
    from pixelkiln.jobs.queue.record import check_job_id

    format: Format | None = next((one for one in get_args(Format) if one == kind), None)
    if format is None:
        raise UsageError(f"--format: must be {', '.join(get_args(Format))}, not {kind[:40]!r}")
    path = target or Path(f"{check_job_id(name)}{SUFFIXES[format]}")
    with Kiln() as kiln:
        facts = kiln.open_batch(name).report(path, format=format, pictures=pictures)
    totals = ", ".join(f"{count:,} {state}" for state, count in facts.totals.items() if count)
    err.print(f"{name}: {totals}", soft_wrap=True)
    if facts.disagreements:
        err.print(f"Redis and the bucket disagree on {len(facts.disagreements):,}; the report names them")
    out.print(str(path), soft_wrap=True)


@app.command()
def prune(
    older: Annotated[str, typer.Option(help="What is older goes: 30d, 2w; 1d at least.")],
    batch: Annotated[str | None, typer.Option(help="Only what belongs to this batch.")] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Pictures too, with their sidecars.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", "-n", help="Only tell what would go.")] = False,
    as_json: JSON = False,
) -> None:
    """Delete what nothing needs any more: references, manifests; needs an operator's credentials."""
    from pixelkiln.jobs.batches.prune import carry_out, plan
    from pixelkiln.jobs.queue.connection import explained
    from pixelkiln.jobs.storage.bucket import Bucket

    with Kiln() as kiln:
        bucket = Bucket.open(kiln.settings)
        whose = None if batch is None else (kiln.settings.client, batch)
        with explained(kiln.settings):
            chosen = plan(
                kiln.redis, bucket, _age(older), now=datetime.now(UTC), batch=whose, pictures=pictures
            )
            gone = [one.key for one in ([] if dry else carry_out(kiln.redis, bucket, chosen))]
        bucket.close()
    if as_json:
        print_json(
            {
                "doomed": [{"kind": kind, "key": one.key, "bytes": one.size} for kind, one in chosen.doomed],
                "needed": [one.key for one in chosen.needed],
                "deleted": gone,
            }
        )
        return
    for kind, (number, size) in chosen.counts().items():
        out.print(f"{kind}: {number:,}, {size / 1e6:,.1f} MB")
    if chosen.needed:
        out.print(f"older, and needed still: {len(chosen.needed):,}")
    out.print(f"deleted: {len(gone):,}" if not dry else "nothing was deleted; without --dry-run these go")


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})\s*([hdw])", text.strip())
    if not found:
        raise UsageError(f"--older: {text[:40]!r} is no age, for instance 30d, 2w or 36h")
    return timedelta(hours=int(found[1]) * {"h": 1, "d": 24, "w": 168}[found[2]])
