"""What those who submit are told: what was filled in, what speaks against it, how it ended."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import typer

from pixelkiln.jobs.asked import SIDES
from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.jobs.batches.books import UNSTORED
from pixelkiln.jobs.batches.manifest import Manifest
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands import about, leaving
from pixelkiln.jobs.commands.naming import PARTLY
from pixelkiln.jobs.commands.output import err, out, print_json
from pixelkiln.jobs.commands.progress import follow, line, short, worst
from pixelkiln.jobs.errors import KilnError, NotReadyError, SpecError
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.farm import Farm
from pixelkiln.jobs.queue.queue import Submitted
from pixelkiln.jobs.queue.shelf import KEPT
from pixelkiln.jobs.queue.status import JobStatus


def tell(
    kiln: Kiln,
    jobs: list[Submitted],
    *,
    wait: bool,
    folder: Path | None,
    as_json: bool,
    batch: Batch | None = None,
) -> None:
    """Print what was enqueued; if asked to, wait and fetch. The exit code tells how the jobs ended.

    Each picture comes home as it ends; one that cannot be brought costs no other.
    """
    _tell_of_filled(jobs)
    _warn(jobs)
    _tell_of_unserved(kiln, jobs, wait)
    if not wait:
        if as_json:
            print_json([{"id": job.id, "created": job.created, "spec": job.spec.wire()} for job in jobs])
            return
        for job in jobs:
            print(job.id)
            if not job.created and batch is None:
                err.print(f"kiln: {job.id} was there already and is left as it is", markup=False)
        return
    paths: dict[str, str] = {}
    faults: dict[str, KilnError] = {}

    def bring(status: JobStatus) -> None:
        if folder is None or status.state != "finished":
            return
        fetch = kiln.fetch if batch is None else batch.fetch_one
        try:
            paths[status.id] = str(fetch(status.id, folder))
            faults.pop(status.id, None)
        except KilnError as error:
            faults[status.id] = error

    ids = [job.id for job in jobs]
    with leaving.told(*(leaving.of_jobs(ids) if batch is None else leaving.of_batch(batch.name))):
        ended = follow(kiln, {job.id: job.spec.prompt for job in jobs}, err, ended=bring)
        for job_id in list(faults):  # the bucket may have been away for a while
            bring(ended[job_id])
    for error in faults.values():
        err.print(f"kiln: {error}", soft_wrap=True)
    if as_json:
        print_json([{**ended[job.id].as_dict(), "file": paths.get(job.id)} for job in jobs])
    else:
        for job in jobs:
            out.print(paths.get(job.id) or line(ended[job.id], job.spec.prompt), markup=False, soft_wrap=True)
    code = worst(list(ended.values()))
    if faults and not paths:
        raise typer.Exit(next(iter(faults.values())).exit_code)
    raise typer.Exit(PARTLY if faults else code)


def tell_of_batch(manifest: Manifest) -> None:
    """What is said first: the name by which all is found again."""
    name = manifest.name
    err.print(
        f"kiln: batch {name}: {len(manifest.entries):,} pictures; see: kiln status {name}", soft_wrap=True
    )
    if why := manifest.options.get(UNSTORED):
        err.print(f"kiln: its manifest is in Redis alone, for {KEPT // 86_400} days: {why}", soft_wrap=True)


def tell_of_rest(batch: Batch) -> None:
    """What of a batch was there already, and what its file has no more."""
    sent = batch.sent
    if sent.there or sent.again:
        words = f"{sent.new:,} new, {sent.again:,} tried again, {sent.there:,} there already and left"
        err.print(f"kiln: {words}", soft_wrap=True)
    if sent.unlisted:
        words = f"{len(sent.unlisted):,} of batch {batch.name} are not in this file, and stand as they were:"
        err.print(f"kiln: {words}", soft_wrap=True)
        for entry in sent.unlisted[:5]:
            err.print(f"  {entry.id}  {short(entry.prompt)}", soft_wrap=True)
        if len(sent.unlisted) > 5:
            err.print(
                f"  and {len(sent.unlisted) - 5:,} more: kiln jobs --batch {batch.name}", soft_wrap=True
            )


def tell_of_deadline(batch: Batch) -> None:
    """Whether a batch that has a deadline will be ready by then."""
    with suppress(NotReadyError):  # the jobs are in; what is to be expected is not worth failing for
        if outlook := batch.outlook():
            err.print(f"kiln: {about.deadline(outlook)}", soft_wrap=True)


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
