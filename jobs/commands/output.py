"""How commands print, and the options that many of them share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pixelkiln.jobs.batches import times
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import SpecError, UsageError
from pixelkiln.jobs.plain import escaped
from pixelkiln.jobs.queue.queue import When

# What is printed was often typed by someone: rich shall neither read markup in it nor draw its :names:.
err = Console(stderr=True, highlight=False, markup=False, emoji=False)
out = Console(highlight=False, markup=False, emoji=False)

LogJson = Annotated[bool, typer.Option("--log-json", help="Log a JSON object a line; also KILN_LOG=json.")]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def a_folder(path: Path | None) -> Path | None:
    """What --out names, looked at before anything is enqueued. Raises UsageError for a file."""
    if path is not None and path.exists() and not path.is_dir():
        raise UsageError(f"--out: {path} is no folder; name one, or one that is to be made")
    return path


Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.", callback=a_folder)]
Home = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Bring the pictures here; implies --wait.", callback=a_folder),
]
NotBefore = Annotated[
    str | None,
    typer.Option(help="No worker takes it earlier: 22:00, 2026-11-27T22:00 or 3h (times in KILN_ZONE)."),
]
Window = Annotated[
    str | None,
    typer.Option(help="No worker takes it at other times: 22:00-07:00, or Mo-Fr 20:00-07:00, Sa-Su."),
]
Due = Annotated[
    str | None,
    typer.Option("--deadline", help="When all of it shall be ready: 07:30, 2026-11-27T07:30 or 8h."),
]
SIZE = re.compile(r"(\d{1,6})[xX×](\d{1,6})")


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    print(escaped(json.dumps(value, indent=1, ensure_ascii=False)))


def print_table(table: Table) -> None:
    """Print a table whose names are whole: folded on a narrow terminal, in a pipe as wide as they are."""
    for column in table.columns:
        column.overflow = "fold"
    if out.is_terminal:
        out.print(table)
        return
    needed = out.measure(table, options=out.options.update(max_width=100_000)).maximum
    width = max(out.width, needed)
    Console(file=out.file, width=width, highlight=False, markup=False, emoji=False).print(table)


def parse_when(kiln: Kiln, not_before: str | None, window: str | None = None) -> When | None:
    """When jobs may be taken, by the options, in the zone of the settings. Raises UsageError."""
    if not_before is not None and window is not None:
        raise UsageError("--not-before and --window: give one of them")
    with _as_options():
        return times.when(kiln.settings.zone, not_before, window)


def parse_due(kiln: Kiln, text: str | None) -> datetime | timedelta | None:
    """A --deadline in the zone of the settings, which is still to come. Raises UsageError."""
    with _as_options():
        return times.due(kiln.settings.zone, text)


@contextmanager
def _as_options() -> Iterator[None]:
    try:
        yield
    except SpecError as error:
        name, _, message = str(error).partition(": ")
        raise UsageError(f"--{name.replace('_', '-')}: {message}") from None


def parse_size(text: str) -> tuple[int, int]:
    """Width and height in pixels of a --size."""
    found = SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"--size: {text!r} is not WIDTHxHEIGHT, for instance 1024x1024")
    return int(found[1]), int(found[2])
