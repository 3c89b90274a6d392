"""What `kiln batch --dry-run` says: the jobs of a file, what is refused, how long and how much it will be."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

from pixelkiln.jobs.batches.checking import Checked, repeated
from pixelkiln.jobs.batches.estimate import Estimate
from pixelkiln.jobs.batches.plan import FIRST, estimated, foreseen, plan
from pixelkiln.jobs.batches.rows import refused, told
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.about import deadline
from pixelkiln.jobs.commands.output import err, out, print_json
from pixelkiln.jobs.commands.progress import short
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.queue import When


def show_plan(
    kiln: Kiln,
    name: str,
    checked: Checked,
    folder: Path | None,
    as_json: bool,
    when: When | None = None,
    due: datetime | timedelta | None = None,
) -> None:
    """Print what a file would enqueue; `when` its jobs may be taken, and when they are `due`."""
    specs = [one.spec for one in checked.asked]
    found, away = estimated(kiln, checked)
    outlook = foreseen(kiln, checked, when, due)
    if as_json:
        print_json(plan(checked, found, outlook))
        return
    again = len(repeated(checked.rows))
    jobs = "1 job" if len(specs) == 1 else f"{len(specs):,} jobs"
    out.print(f"{plain(name)}: {jobs}, of which nothing was sent")
    for row, spec in list(zip(checked.rows, specs, strict=True))[:FIRST]:
        seed = "seed drawn" if spec.seed is None else f"seed {spec.seed}"
        kind = f"{spec.model}:{spec.quantization}, {spec.width} x {spec.height}, {seed}"
        out.print(f"  {row.place}: {plain(short(spec.prompt))}: {kind}", soft_wrap=True)
    if len(specs) > FIRST:
        out.print(f"  and {len(specs) - FIRST:,} more")
    if again:
        out.print(f"{again:,} of them repeat earlier ones; each is a picture of its own")
    if checked.faults:
        for line in (f"kiln: {refused(checked.bad)}:", *told(checked.faults)):
            err.print(line, soft_wrap=True)
    if found is None:
        out.print(f"time and space: not known; {away}", soft_wrap=True)
    elif specs:
        out.print(f"time: {time_of(found)}", soft_wrap=True)
        if outlook:
            out.print(f"deadline: {deadline(outlook)}", soft_wrap=True)
        out.print(f"space: {space_of(found, folder)}", soft_wrap=True)


def time_of(found: Estimate) -> str:
    """How long it will take, in words."""
    if found.unserved:
        return f"not known; no living worker serves {', '.join(found.unserved)}"
    if found.hours is None:
        return f"not known; no living worker finished a job of {', '.join(found.unknown)} of late"
    minutes = found.hours * 60
    about = f"{found.hours:.1f} hours" if minutes >= 90 else f"{max(minutes, 1):.0f} min"
    beside = f", after {found.waiting:,} jobs that wait already" if found.waiting else ""
    who = f"{len(found.workers)} workers that live" if len(found.workers) > 1 else "the worker that lives"
    return f"about {about} on {who}{beside}"


def space_of(found: Estimate, folder: Path | None) -> str:
    """How much the pictures will take, in the bucket and in a folder."""
    size = f"{'about' if found.measured else 'at most'} {_bytes(found.space)}"
    if folder is None:
        return f"{size} in the bucket"
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(there).free
    short_of = "; that is too little" if free < found.space else ""
    return f"{size} in the bucket, and as much in {plain(str(folder))}, with {_bytes(free)} free{short_of}"


def _bytes(count: float) -> str:
    size, unit = next((one for one in ((1e9, "GB"), (1e6, "MB")) if count >= one[0]), (1e3, "kB"))
    return f"{count / size:.1f} {unit}"
