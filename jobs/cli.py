"""The commands of a producer. `worker.cli` mounts them beside the worker's own."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jobs.client import Kiln, Submitted
from jobs.errors import NotReadyError, SpecError, UsageError
from jobs.progress import follow, line, worst
from jobs.spec import RenderSpec
from jobs.status import JobStatus

app = typer.Typer(
    name="kiln",
    help="Renders pictures on your own Macs, overnight, without watching.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# What is printed was often typed by someone: rich shall neither read markup in it nor draw its :names:.
err = Console(stderr=True, highlight=False, markup=False, emoji=False)
out = Console(highlight=False, markup=False, emoji=False)

JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")]
SIZE = re.compile(r"(\d{1,6})[xX×](\d{1,6})")


@app.command()
def submit(
    prompts: Annotated[
        list[str], typer.Argument(help="One prompt or several, each in quotes.", metavar="PROMPT")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="See `kiln models list`.")] = "hidream-o1-dev",
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
    id: Annotated[str | None, typer.Option(help="The job's id; one that exists is left as it is.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch until it has ended.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Bring the pictures here; implies --wait.")
    ] = None,
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
    kiln = Kiln()
    jobs = kiln.submit_many([{**fields, "prompt": prompt} for prompt in prompts], ids=[id] if id else None)
    _told(kiln, jobs, wait=wait or folder is not None, folder=folder, as_json=as_json)


@app.command()
def batch(
    file: Annotated[
        Path, typer.Argument(help="A prompt a line, or a JSON spec a line; - reads standard input.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="For lines that name none.")] = "hidream-o1-dev",
    quantization: Annotated[str, typer.Option("--quantization", "-q", help="Likewise.")] = "bf16",
    size: Annotated[str | None, typer.Option("--size", "-s", help="Likewise, WIDTHxHEIGHT.")] = None,
    name: Annotated[str | None, typer.Option(help="List the jobs as an RQ group of this name.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch until all have ended.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Bring the pictures here; implies --wait.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Enqueue a file of jobs: all of them, or none if a line is refused."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
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
    specs = [{"client": kiln.settings.client, **spec} for spec in specs]
    _told(
        kiln,
        kiln.submit_many(specs, batch=name),
        wait=wait or folder is not None,
        folder=folder,
        as_json=as_json,
    )


@app.command()
def status(
    ids: Annotated[list[str] | None, typer.Argument(help="Jobs; none: the farm.", metavar="[ID]")] = None,
    as_json: JSON = False,
) -> None:
    """Tell how jobs fare, or what waits and who works."""
    kiln = Kiln()
    if not ids:
        _farm(kiln, as_json)
        return
    found = [kiln.status(job_id) for job_id in ids]
    if as_json:
        print_json([one.as_dict() for one in found] if len(found) > 1 else found[0].as_dict())
        return
    for one in found:
        out.print(_describe(one), markup=False)


@app.command()
def watch(
    ids: Annotated[list[str], typer.Argument(help="Jobs.", metavar="ID")], as_json: JSON = False
) -> None:
    """Follow jobs until they have ended; with --json, a line for every change."""
    kiln = Kiln()
    if as_json:
        last = {}
        for one in kiln.watch(ids):
            print(json.dumps(one.as_dict()), flush=True)
            last[one.id] = one
    else:
        last = follow(kiln, {job_id: job_id for job_id in ids}, out)
    raise typer.Exit(worst(list(last.values())))


@app.command()
def fetch(
    ids: Annotated[list[str], typer.Argument(help="Finished jobs.", metavar="ID")],
    folder: Out = Path(),
    as_json: JSON = False,
) -> None:
    """Bring pictures and sidecars home as ID.png and ID.json, checksums compared."""
    kiln = Kiln()
    paths = [str(kiln.fetch(job_id, folder)) for job_id in ids]
    if as_json:
        print_json([{"id": job_id, "png": path} for job_id, path in zip(ids, paths, strict=True)])
    else:
        for path in paths:
            print(path)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a job's spec."""
    print_json(RenderSpec.model_json_schema())


def _told(kiln: Kiln, jobs: list[Submitted], *, wait: bool, folder: Path | None, as_json: bool) -> None:
    """Print what was enqueued; if asked to, wait and bring it home. Exits as the jobs ended."""
    for job in jobs:
        if job.spec.quantization == "q4":
            err.print("kiln: q4 darkens pictures; q6 is the smallest that does not", markup=False)
            break
    _tell_of_unserved(kiln, jobs)
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


def _tell_of_unserved(kiln: Kiln, jobs: list[Submitted]) -> None:
    """A job that no worker serves now waits for one: worth a line, lest someone waits with it."""
    try:
        workers = kiln.farm()["workers"]
    except NotReadyError:  # the jobs are in; who works is not worth failing for
        return
    served = {kind for worker in workers for kind in worker["serves"].split(",")}
    paused = {name for worker in workers for name in worker["paused"].split(",")}
    about = {f"client:{job.spec.client}" for job in jobs} | {f"model:{job.spec.model}" for job in jobs}
    for one in sorted(paused & (about | {"farm"})):
        err.print(f"kiln: {one} is paused; it waits for: kiln resume {one}")
    wanted = {f"{job.spec.model}:{job.spec.quantization}" for job in jobs}
    if served and wanted - served:
        err.print(
            f"kiln: no worker serves {', '.join(sorted(wanted - served))} now (there is "
            f"{', '.join(sorted(served))}); it waits until one does",
            markup=False,
            emoji=False,
        )
    for kind, side, pixels in _beyond_all(workers, jobs):
        err.print(
            f"kiln: {pixels:,} pixels at {kind} are more than any worker has memory for now: at most"
            f" {side} x {side}; it fails unless a larger worker comes first",
            markup=False,
            emoji=False,
        )


def _beyond_all(workers: list[dict[str, Any]], jobs: list[Submitted]) -> set[tuple[str, int, int]]:
    """Jobs beyond the largest square that any worker says it can render: kind, that square's side, pixels."""
    found = set()
    for job in jobs:
        kind = f"{job.spec.model}:{job.spec.quantization}"
        sides = [worker["largest"][kind] for worker in workers if kind in worker["largest"]]
        pixels = job.spec.width * job.spec.height
        if sides and pixels > max(sides) ** 2 and not job.spec.keep_aspect:
            found.add((kind, max(sides), pixels))
    return found


def _farm(kiln: Kiln, as_json: bool) -> None:
    """What waits in each lane, and what each worker does."""
    farm = kiln.farm()
    if as_json:
        print_json(farm)
        return
    lanes = Table("lane", "queued", "started", "finished", "failed", title="lanes", title_justify="left")
    for lane in farm["lanes"]:
        lanes.add_row(lane["lane"], *(str(lane[key]) for key in ("queued", "started", "finished", "failed")))
    workers = Table("worker", "does", "serves", title="workers", title_justify="left")
    for worker in farm["workers"]:
        workers.add_row(worker["name"], worker["state"], worker["serves"])
    out.print(lanes if farm["lanes"] else "no jobs yet")
    if paused := sorted({name for one in farm["workers"] for name in one["paused"].split(",") if name}):
        out.print(f"paused: {', '.join(paused)}", markup=False)
    out.print(workers if farm["workers"] else "no workers; start one with: kiln worker", markup=False)


def _describe(status: JobStatus) -> str:
    words = [status.id, status.state]
    if status.phase:
        words.append(f"{status.phase} {status.step}/{status.steps}" if status.steps else status.phase)
    if status.attempt > 1:
        words.append(f"attempt {status.attempt}")
    if status.worker and not status.ended:
        words.append(f"on {status.worker}")
    if status.error:
        words.append(status.error)
    if status.result:
        words.append(status.result["png"])
    return "  ".join(words)


def parse_size(text: str) -> tuple[int, int]:
    """Width and height in pixels of a --size."""
    found = SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"--size: {text!r} is not WIDTHxHEIGHT, for instance 1024x1024")
    return int(found[1]), int(found[2])


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


def _line(entry: str, shared: dict[str, Any], number: int) -> dict[str, Any]:
    """One line of a batch as a spec's fields, checked so that an error can name the line."""
    fields = {"prompt": entry.strip()}
    if entry.lstrip().startswith("{"):
        try:
            fields = json.loads(entry)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"line {number}: is not JSON: {error}") from None
    spec = {**shared, **fields}
    try:
        RenderSpec.parse(spec)
    except SpecError as error:
        raise UsageError(f"line {number}: {error}") from None
    return spec


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    print(json.dumps(value, indent=1, ensure_ascii=False))
