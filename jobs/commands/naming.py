"""What a command is about: jobs by id and batches by name, and what is said of those that are none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import typer

from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.output import err
from pixelkiln.jobs.errors import KilnError, NotReadyError
from pixelkiln.jobs.queue.record import JOB_ID

T = TypeVar("T")
S = TypeVar("S")

PARTLY = 4  # exit code where some succeeded and some did not
_DRAWN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # an id that submit drew


def named(kiln: Kiln, text: str) -> Batch | str:
    """The batch of that name, or else the id of a job; 'batch:NAME' is never an id."""
    if text.startswith("batch:"):
        return kiln.open_batch(text.removeprefix("batch:"))
    if _DRAWN.fullmatch(text) or not JOB_ID.fullmatch(text) or kiln.queue.standing([text])[text] is not None:
        return text
    manifest = kiln.books.find(text)
    return text if manifest is None else Batch(kiln, manifest)


def each(things: Sequence[T], act: Callable[[T], S]) -> tuple[list[S], list[KilnError]]:
    """`act` on each: what came of those that could be, and what is wrong with the others, which is printed.

    A single one's error is raised, and so is one that is about them all.
    """
    done: list[S] = []
    faults: list[KilnError] = []
    for thing in things:
        try:
            done.append(act(thing))
        except NotReadyError:
            raise
        except KilnError as error:
            if len(things) == 1:
                raise
            err.print(f"kiln: {error}", soft_wrap=True)
            faults.append(error)
    return done, faults


def end(good: Iterable[object], faults: Sequence[KilnError]) -> None:
    """Leave with the exit code that such a list has: 4 where some were good. Nothing where none was wrong."""
    if faults:
        raise typer.Exit(PARTLY if any(True for _ in good) else faults[0].exit_code)
