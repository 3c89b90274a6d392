"""The command that enqueues a file of jobs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.jobs.batches.checking import Checked, check, repeated, store_pictures
from pixelkiln.jobs.batches.reading import FORMATS, MAX_BYTES, Format, read_rows
from pixelkiln.jobs.batches.rows import FaultyRowsError, Row, refused, told
from pixelkiln.jobs.batches.sweeps import expand
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands import leaving
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.desk import tell_desk
from pixelkiln.jobs.commands.output import JSON, Due, Home, NotBefore, Window, err, parse_due, parse_when
from pixelkiln.jobs.commands.plan import show_plan
from pixelkiln.jobs.commands.shares import Draft, Fast
from pixelkiln.jobs.commands.told import tell, tell_of_batch, tell_of_deadline, tell_of_rest
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.queue.queue import When
from pixelkiln.jobs.shares import shortened

SOME = 4  # exit code: some were refused or did not finish


def _a_format(text: str | None) -> str | None:
    if text is not None and text not in FORMATS:
        raise UsageError(f"--format: {text[:40]!r} is none of {', '.join(FORMATS)}")
    return text


@app.command()
def batch(
    file: Annotated[
        Path,
        typer.Argument(help="CSV, TSV, JSON, JSON Lines, YAML, or a prompt a line; - reads standard input."),
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="For rows that name none; absent: as for submit.")
    ] = None,
    quantization: Annotated[str | None, typer.Option("--quantization", "-q", help="Likewise.")] = None,
    size: Annotated[str | None, typer.Option("--size", "-s", help="Likewise, WIDTHxHEIGHT.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Likewise: each row once for each, for instance 1-8.")
    ] = None,
    fast: Fast = False,
    draft: Draft = False,
    format: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(FORMATS)}; absent: by suffix, or by what it holds.", callback=_a_format
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be sent; send nothing.")
    ] = False,
    skip_bad: Annotated[bool, typer.Option(help="Send the good rows, name the others; exit code 4.")] = False,
    name: Annotated[
        str | None, typer.Option(help="What it is found by; absent: made of the file's and the time.")
    ] = None,
    not_before: NotBefore = None,
    window: Window = None,
    deadline: Due = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch until all have ended.")] = False,
    folder: Home = None,
    as_json: JSON = False,
) -> None:
    """Enqueue a file of jobs: all of them, or none if a row is refused.

    Submitted again under its name, only what is new, failed or was cancelled is rendered.
    """
    usual = {"model": model, "quantization": quantization, "size": size, "seeds": seeds}
    rows = _rows(file, format, {name: value for name, value in usual.items() if value is not None})  # type: ignore[arg-type]
    rows = shortened(rows, fast, draft)
    kiln = Kiln()
    when, due = parse_when(kiln, not_before, window), parse_due(kiln, deadline)
    with _bar("checking", len(rows)) as advance:
        checked = check(kiln, rows, advance)
    if dry_run:
        show_plan(kiln, file.name, checked, folder, as_json, when, due)
        raise typer.Exit(
            0 if not checked.faults else SOME if skip_bad and checked.asked else UsageError.exit_code
        )
    if checked.faults and not (skip_bad and checked.asked):
        raise FaultyRowsError(checked.faults, checked.bad)
    if checked.faults:
        for line in (f"kiln: {refused(checked.bad)}, the others sent:", *told(checked.faults)):
            err.print(line, soft_wrap=True)
    _tell_of_repeated(checked.rows)
    with leaving.told("not all may be sent; the same command with --name and that name sends the rest"):
        sent = _send(kiln, checked, name, file.name, when, due)
    tell_of_rest(sent)
    tell_of_deadline(sent)
    code, waits = 0, wait or folder is not None
    try:
        tell(kiln, list(sent.sent.jobs), wait=waits, folder=folder, as_json=as_json, batch=sent)
    except typer.Exit as end:
        code = end.exit_code
    if waits:
        tell_desk(kiln.settings, sent)
    raise typer.Exit(SOME if checked.faults and code == 0 else code)


def _rows(file: Path, format: Format | None, usual: dict[str, str]) -> list[Row]:
    """The rows of a file, expanded; the options are their defaults. Raises UsageError."""
    given = str(file) == "-"
    try:
        if given:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{file}: is more than {MAX_BYTES // 2**20} MB; split it")
    folder = Path() if given else file.parent
    return expand(
        read_rows("standard input" if given else file.name, data, folder, format=format, defaults=usual)
    )


def _tell_of_repeated(rows: list[Row]) -> None:
    if again := repeated(rows):
        where = f", first in line {again[0].place.line}" if again[0].place.line else ""
        err.print(f"kiln: {len(again):,} jobs repeat earlier ones{where}; each is a picture of its own")


def _send(
    kiln: Kiln,
    checked: Checked,
    name: str | None,
    source: str,
    when: When | None,
    due: datetime | timedelta | None,
) -> Batch:
    """Enqueue what was checked, its references before it."""
    if checked.pictures:
        with _bar("uploading references", len(checked.pictures)) as advance:
            store_pictures(kiln, checked, advance)
    return kiln.batch(checked.asked, name, source=source, not_before=when, deadline=due, begun=tell_of_batch)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar on a terminal; what moves it on, by one or so many."""
    with Progress(
        TextColumn(what),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda count=1: bars.advance(bar, count)
