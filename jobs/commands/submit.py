"""The commands that enqueue jobs."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from pixelkiln.jobs.catalogue import DEFAULT_MODEL
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, Home, err, out, parse_size, print_json
from pixelkiln.jobs.commands.progress import follow, line, worst
from pixelkiln.jobs.errors import NotReadyError, SpecError, UsageError
from pixelkiln.jobs.fields import SpecFields
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.farm import Farm
from pixelkiln.jobs.queue.queue import Submitted
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.visible import is_one_word


@app.command()
def submit(
    prompts: Annotated[
        list[str], typer.Argument(help="One prompt or several, each in quotes.", metavar="PROMPT")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="See `kiln models list`.")] = DEFAULT_MODEL,
    quantization: Annotated[
        str, typer.Option("--quantization", "-q", help="bf16, q8, q6, q5 or q4.")
    ] = "bf16",
    size: Annotated[str | None, typer.Option("--size", "-s", help="WIDTHxHEIGHT in pixels.")] = None,
    seed: Annotated[int | None, typer.Option(help="0 to 9007199254740991; drawn when absent.")] = None,
    steps: Annotated[int | None, typer.Option(help="Where the model lets one choose.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Where the model lets one choose.")] = None,
    ref: Annotated[
        list[Path] | None, typer.Option("--ref", "-r", help="A reference picture; several are allowed.")
    ] = None,
    keep_aspect: Annotated[bool, typer.Option(help="Take the one reference's proportions.")] = False,
    box: Annotated[
        list[str] | None, typer.Option(help="X1,X2,Y1,Y2 in 0 to 1: where the next reference goes.")
    ] = None,
    priority: Annotated[str, typer.Option(help="high, normal or low.")] = "normal",
    client: Annotated[str | None, typer.Option(help="Whose job it is (KILN_CLIENT).")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=TEXT, kept in the sidecar.")] = None,
    blend_seams: Annotated[int, typer.Option(help="Radius in pixels; 0 leaves seams alone.")] = 0,
    id: Annotated[
        str | None, typer.Option(help="The job's id; one that is there for the same spec is left as it is.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch until it has ended.")] = False,
    folder: Home = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take several one-word prompts as meant.")] = False,
    as_json: JSON = False,
) -> None:
    """Enqueue one job per prompt and print its id."""
    fields: dict[str, Any] = {
        "model": model,
        "quantization": quantization,
        "seed": seed,
        "steps": steps,
        "guidance": guidance,
        "priority": priority,
        "client": client,
        "blend_seams": blend_seams,
        "references": tuple(ref or ()),
        "keep_aspect": keep_aspect,
        "layout": [_box(text) for text in box or ()],
        "labels": _labels(label or []),
        **_size(size),
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    if id is not None and len(prompts) > 1:
        raise UsageError("--id names one job; give one prompt with it")
    if not yes:
        _ask_about_words(prompts)
    kiln = Kiln()
    specs = [cast(SpecFields, {**fields, "prompt": prompt}) for prompt in prompts]  # checked there
    jobs = kiln.submit_many(specs, ids=[id] if id else None)
    for path in ref or ():
        _tell_of_first(path)
    _told(kiln, jobs, wait=wait or folder is not None, folder=folder, as_json=as_json)


@app.command()
def batch(
    file: Annotated[
        Path, typer.Argument(help="A prompt a line, or a JSON spec a line; - reads standard input.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="For lines that name none.")] = DEFAULT_MODEL,
    quantization: Annotated[str, typer.Option("--quantization", "-q", help="Likewise.")] = "bf16",
    size: Annotated[str | None, typer.Option("--size", "-s", help="Likewise, WIDTHxHEIGHT.")] = None,
    name: Annotated[str | None, typer.Option(help="List the jobs as an RQ group of this name.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch until all have ended.")] = False,
    folder: Home = None,
    as_json: JSON = False,
) -> None:
    """Enqueue a file of jobs: all of them, or none if a line is refused."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        text = text.removeprefix("\ufeff")  # a byte order mark, as Windows' editors write it
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}") from None
    shared = {"model": model, "quantization": quantization, **_size(size)}
    specs = []
    for number, entry in enumerate(text.splitlines(), 1):
        if entry.strip():
            specs.append(_line(entry, shared, number))
    if not specs:
        raise UsageError(f"{file}: holds no prompts")
    kiln = Kiln()
    jobs = kiln.submit_many(specs, batch=name)
    _told(kiln, jobs, wait=wait or folder is not None, folder=folder, as_json=as_json)


def _ask_about_words(prompts: list[str]) -> None:
    """A prompt without its quotes comes as its words: ask who sits there, or refuse. Raises UsageError."""
    words = sum(map(is_one_word, prompts))
    if words < 2:
        return
    meant = shlex.quote(plain(" ".join(prompts)[:60]))
    told = f"{len(prompts)} prompts, {words} of them one word; quotes make one of them: {meant}"
    if not _at_a_terminal():
        raise UsageError(f"{told}; --yes if they are {len(prompts)} jobs")
    if not typer.confirm(f"kiln: {told}. Enqueue {len(prompts)} jobs?", err=True):
        raise UsageError("nothing was enqueued")


def _at_a_terminal() -> bool:
    """Whether somebody sits there who can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _tell_of_first(path: Path) -> None:
    """Of an animation, or of several pages, the first is taken."""
    from pixelkiln.jobs.storage.pictures import look  # Pillow, which few commands need

    with suppress(OSError, SpecError):  # it was uploaded, and may be gone or another by now
        if notice := look(path.read_bytes()).notice:
            err.print(f"kiln: {plain(str(path))} {notice}", soft_wrap=True)


def _told(kiln: Kiln, jobs: list[Submitted], *, wait: bool, folder: Path | None, as_json: bool) -> None:
    """Print what was enqueued; if asked to, wait and fetch. The exit code tells how the jobs ended."""
    for job in jobs:
        if job.spec.quantization == "q4":
            err.print("kiln: q4 darkens pictures; q6 is the smallest that does not", markup=False)
            break
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


def _size(text: str | None) -> dict[str, int]:
    return {} if text is None else dict(zip(("width", "height"), parse_size(text), strict=True))


def _box(text: str) -> dict[str, float]:
    try:
        x1, x2, y1, y2 = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--box: {text!r} is not X1,X2,Y1,Y2, for instance 0.1,0.5,0.2,0.9") from None
    return {"x1": x1, "x2": x2, "y1": y1, "y2": y2}


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--label: {pair!r} is not NAME=TEXT")
        labels[name] = text
    return labels


def _line(entry: str, shared: dict[str, Any], number: int) -> RenderSpec:
    """One line of a batch as a spec. Raises UsageError, which names the line."""
    fields = {"prompt": entry.strip()}
    if entry.lstrip().startswith("{"):
        try:
            fields = json.loads(entry)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"line {number}: is not JSON: {_fault(error)}") from None
    try:
        return RenderSpec.parse({**shared, **fields})
    except SpecError as error:
        raise UsageError(f"line {number}: {error}") from None


def _fault(error: Exception) -> str:
    """What json found, without its own line number: that is 1 in every line of a file."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return str(error)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a job's spec."""
    print_json(RenderSpec.model_json_schema())
