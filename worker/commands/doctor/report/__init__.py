"""`kiln doctor --report`: one text file about a machine, to be attached to an issue by its owner."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.doctor.report.scrub import Scrubber
from pixelkiln.worker.commands.doctor.report.sections import SECTIONS, Context

HEAD = """pixelkiln report, version 1

Names of users, machines, networks, buckets and clients are replaced by <placeholders>; passwords, keys and
the environment are not in it. Please read it before you attach it to an issue.
"""


def write_report(
    path: Path,
    settings: Settings,
    *,
    soak: float,
    golden: Path | None = None,
    scrub: Scrubber | None = None,
    progress: Callable[[str], None] = lambda words: None,
) -> None:
    """Look, verify, measure, and write what was found to `path`, readable by its owner alone.

    A section that fails says so and the next goes on; Ctrl-C ends it with what there is. `soak` is in
    seconds. Raises UsageError where `path` cannot be written.
    """
    scrub = scrub or Scrubber.of(settings)
    _write(path, HEAD)  # better now than after ten minutes
    context = Context(settings, soak, golden, progress)
    parts = [HEAD]
    try:
        for title, section in SECTIONS:
            progress(title)
            parts.append(f"\n== {title} ==\n")
            parts += (f"{line}\n" for line in _lines(section, context))
    except KeyboardInterrupt:
        parts.append("interrupted here\n")
        raise
    finally:
        context.close()
        _write(path, scrub("".join(parts)))


def _lines(section: Callable[[Context], Iterator[str]], context: Context) -> Iterator[str]:
    try:
        yield from section(context)
    except Exception as error:  # whatever is wrong with this machine is what the report is for
        yield f"failed: {type(error).__name__}: {error}"


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch(mode=0o600, exist_ok=False)
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise UsageError(f"--report: {path} cannot be written ({error.strerror})") from None
