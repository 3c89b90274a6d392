"""What those who submit are told: what was filled in, what speaks against it, how it ended."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import typer

from pixelkiln.jobs.asked import SIDES
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.output import err, out, print_json
from pixelkiln.jobs.commands.progress import follow, line, worst
from pixelkiln.jobs.errors import NotReadyError, SpecError
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.farm import Farm
from pixelkiln.jobs.queue.queue import Submitted


def tell(kiln: Kiln, jobs: list[Submitted], *, wait: bool, folder: Path | None, as_json: bool) -> None:
    """Print what was enqueued; if asked to, wait and fetch. The exit code tells how the jobs ended."""
    _tell_of_filled(jobs)
    _warn(jobs)
    _tell_of_unserved(kiln, jobs, wait)
    if not wait:
        if as_json:
            print_json([{"id": job.id, "created": job.created, "spec": job.spec.wire()} for job in jobs])
            return
        for job in jobs:
            print(job.id)
            if not job.created:
                err.print(f"kiln: {job.id} was there already and is left as it is", markup=False)
        return
    ended = follow(kiln, {job.id: job.spec.prompt for job in jobs}, err)
    paths = {}
    if folder is not None:
        paths = {id: str(kiln.fetch(id, folder)) for id, one in ended.items() if one.state == "finished"}
    if as_json:
        print_json([{**ended[job.id].as_dict(), "file": paths.get(job.id)} for job in jobs])
    else:
        for job in jobs:
            out.print(paths.get(job.id) or line(ended[job.id], job.spec.prompt), markup=False, soft_wrap=True)
    raise typer.Exit(worst(list(ended.values())))


def _warn(jobs: list[Submitted]) -> None:
    """What is rendered as asked for, and may be regretted: once for all jobs."""
    for job in jobs:
        if job.spec.quantization == "q4":
            err.print("kiln: q4 darkens pictures; q6 is the smallest that does not", markup=False)
            break
    for name in dict.fromkeys(job.spec.model for job in jobs):
        cliff = CATALOGUE[name].cliff
        if cliff and any(j.spec.width * j.spec.height > cliff for j in jobs if j.spec.model == name):
            err.print(
                f"kiln: above {cliff:,} pixels {name} runs another schedule, and its pictures are reported"
                " worse just above it",
                soft_wrap=True,
            )


def _tell_of_filled(jobs: list[Submitted]) -> None:
    """What was left out and is filled in now, a line for each kind and size."""
    told: dict[str, int] = {}
    for job in jobs:
        kind = f"{job.spec.model}:{job.spec.quantization}"
        if job.created and job.filled:
            size = f", {job.spec.width} x {job.spec.height}" if job.filled & SIDES else ""
            told[kind + size] = told.get(kind + size, 0) + 1
    for what, count in told.items():
        times = f" ({count} jobs)" if count > 1 else ""
        err.print(f"kiln: {what}{times}", markup=False, emoji=False, soft_wrap=True)


def _tell_of_unserved(kiln: Kiln, jobs: list[Submitted], wait: bool) -> None:
    """A job that no worker serves now waits for one: worth a line, lest someone waits with it.

    Where none is there at all, only who waits is told: others may start theirs in the evening.
    """
    try:
        farm = kiln.farm()
    except NotReadyError:  # the jobs are in; who works is not worth failing for
        return
    served = farm.served
    about = {f"client:{job.spec.client}" for job in jobs} | {f"model:{job.spec.model}" for job in jobs}
    for one in sorted(farm.paused & (about | {"farm"})):
        err.print(f"kiln: {one} is paused; it waits for: kiln resume {one}")
    wanted = {f"{job.spec.model}:{job.spec.quantization}" for job in jobs}
    if served and wanted - served:
        err.print(
            f"kiln: no worker serves {', '.join(sorted(wanted - served))} now (there is "
            f"{', '.join(sorted(served))}); it waits until one does",
            markup=False,
            emoji=False,
        )
    if wait and not served and any(job.created for job in jobs):
        err.print("kiln: no worker is there now; it waits until one is: kiln worker")
    for kind, side, pixels in _beyond_all(farm, jobs):
        err.print(
            f"kiln: {pixels:,} pixels at {kind} are more than any worker has memory for now: at most"
            f" {side} x {side}; it fails unless a larger worker comes first",
            markup=False,
            emoji=False,
        )


def _beyond_all(farm: Farm, jobs: list[Submitted]) -> set[tuple[str, int, int]]:
    """Jobs beyond the largest square that any worker says it can render: kind, that square's side, pixels."""
    found = set()
    for job in jobs:
        kind = f"{job.spec.model}:{job.spec.quantization}"
        there = [worker for worker in farm.workers if not worker.gone]
        sides = [worker.largest[kind] for worker in there if kind in worker.largest]
        pixels = job.spec.width * job.spec.height
        if sides and pixels > max(sides) ** 2 and not job.spec.keep_aspect:
            found.add((kind, max(sides), pixels))
    return found


def tell_of_first(path: Path) -> None:
    """Of an animation, or of several pages, the first is taken."""
    from pixelkiln.jobs.storage.pictures import look  # Pillow, which few commands need

    with suppress(OSError, SpecError):  # it was uploaded, and may be gone or another by now
        if notice := look(path.read_bytes()).notice:
            err.print(f"kiln: {plain(str(path))} {notice}", soft_wrap=True)
