"""What is said to one who leaves while jobs run: Ctrl-C, or a terminal that is closed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import typer

from pixelkiln.jobs.commands.output import err


class _HungUp(BaseException):
    """The terminal is gone; like KeyboardInterrupt no error."""


@contextmanager
def told(first: str, *lines: str) -> Iterator[None]:
    """Within the block, who leaves is told these lines: what goes on, and how to come back."""

    def hang_up(number: int, frame: FrameType | None) -> None:
        raise _HungUp

    before = signal.getsignal(signal.SIGHUP)
    if before == signal.SIG_DFL:  # nohup's is to be ignored
        signal.signal(signal.SIGHUP, hang_up)
    try:
        yield
    except (KeyboardInterrupt, _HungUp) as error:
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGHUP
        with suppress(OSError):  # nobody may be left to read it
            for line in (f"kiln: {first}", *lines):
                err.print(line, soft_wrap=True)
        raise typer.Exit(128 + number) from None
    finally:
        if before == signal.SIG_DFL:
            signal.signal(signal.SIGHUP, before)


def of_jobs(ids: list[str]) -> list[str]:
    """What is said of jobs without a batch."""
    some = " ".join(ids[:5]) + (" …" if len(ids) > 5 else "")
    return [
        "the jobs go on without this; come back with:",
        f"  kiln watch {some}",
        f"  kiln fetch {some} --out DIR",
    ]


def of_batch(name: str) -> list[str]:
    """What is said of a batch."""
    return [
        f"batch {name} goes on without this; come back, from any machine, with:",
        f"  kiln watch {name}",
        f"  kiln fetch {name} --out DIR",
    ]
