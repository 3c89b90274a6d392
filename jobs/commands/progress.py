"""What a person sees while jobs run, and when they have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import KilnError
from pixelkiln.jobs.queue.status import JobStatus

ROWS = 8  # running jobs shown at once


def follow(
    kiln: Kiln,
    prompts: Mapping[str, str],
    console: Console,
    check: Callable[[], None] = lambda: None,
    ended: Callable[[JobStatus], None] = lambda status: None,
) -> dict[str, JobStatus]:
    """Show the jobs (id to prompt) until all have ended; their last statuses by id.

    On a terminal bars move, and a suspicious picture is one line; elsewhere each end is.
    `check` is called between looks, to raise; `ended` with each that has.
    """

    def pause(seconds: float) -> None:
        check()
        time.sleep(seconds)

    last: dict[str, JobStatus] = {}
    with _bars(console) as bars:
        whole = bars.add_task("all", total=len(prompts), what="all jobs", phase="")
        rows: dict[str, TaskID] = {}
        for status in kiln.watch(list(prompts), sleep=pause):
            last[status.id] = status
            _show(bars, rows, status, prompts[status.id])
            if status.ended:
                ended(status)
                bars.advance(whole)
                if not console.is_terminal or status.suspicious:
                    console.print(line(status, prompts[status.id]), soft_wrap=True)
    return last


def line(status: JobStatus, prompt: str) -> Text:
    """One job's end in one line; a prompt is text, never markup."""
    style = "green" if status.state == "finished" else "red"
    return Text.assemble(
        (f"{status.state:9}", style),
        f" {status.id}  {short(prompt)}  {status.error or doubts(status)}".rstrip(),
    )


def doubts(status: JobStatus) -> str:
    """What the checks found in a job's picture; '' where they found nothing."""
    return f"suspicious: {', '.join(status.suspicious)}" if status.suspicious else ""


def short(prompt: str, width: int = 40) -> str:
    """A prompt that fits in a row."""
    flat = " ".join(prompt.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def worst(statuses: Sequence[JobStatus]) -> int:
    """The exit code for jobs that have ended: 0 all finished, 1 none, 4 some."""
    finished = sum(status.state == "finished" for status in statuses)
    if finished == len(statuses):
        return 0
    return 4 if finished else KilnError.exit_code


def _show(bars: Progress, rows: dict[str, TaskID], status: JobStatus, prompt: str) -> None:
    if status.ended:
        if status.id in rows:
            bars.remove_task(rows.pop(status.id))
    elif status.state == "started":
        if status.id not in rows and len(rows) < ROWS:
            rows[status.id] = bars.add_task(status.id, total=None, what=short(prompt), phase="")
        if status.id in rows:
            bars.update(
                rows[status.id], total=status.steps or None, completed=status.step, phase=status.phase or ""
            )
    elif status.id in rows:  # given back
        bars.remove_task(rows.pop(status.id))


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    with Progress(
        TextColumn("{task.fields[what]:40}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[phase]}", style="dim"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        yield bars
