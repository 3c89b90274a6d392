"""The console script `kiln`: the producer's commands of `jobs.cli`, and the worker's own.

Each command imports what it needs when it runs, so that `kiln submit` starts fast and needs no MLX.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import jobs.steer  # noqa: F401 - its commands are mounted by being there
from jobs.cli import JSON, app, err, out, parse_size
from jobs.errors import KilnError, NotReadyError, UsageError
from jobs.settings import Settings

if TYPE_CHECKING:
    from worker.engines.hidream.golden import CaseResult

models_app = typer.Typer(help="Checkpoints: what is here, and whether it computes what it should.")
app.add_typer(models_app, name="models", no_args_is_help=True)


def main() -> None:
    """Run the command line. Errors of ours are one line on stderr and their own exit code."""
    try:
        app(standalone_mode=True)
    except KilnError as error:
        err.print(f"kiln: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)


@app.command()
def demo(as_json: JSON = False) -> None:
    """Render six postcards on this machine, from queue to bucket, and leave nothing running."""
    _needs_worker()
    from jobs.progress import follow, worst
    from worker.demo import PROMPTS, SEED, farm, rows, sheet
    from worker.sheet import inline

    settings = Settings.load()
    renders = settings.renders_dir or Path("renders")
    with _terminable(), farm(settings, models=["demo"]) as running:
        run = secrets.token_hex(2)  # short ids make short paths
        jobs = running.kiln.submit_many(
            [{"prompt": prompt, "model": "demo", "seed": SEED} for prompt in PROMPTS],
            ids=[f"demo-{run}-{number}" for number in range(1, len(PROMPTS) + 1)],
        )
        ended = follow(running.kiln, {job.id: job.spec.prompt for job in jobs}, err, check=running.check)
        table = rows(running.kiln, ended, renders)
    if as_json:
        print(json.dumps(table, indent=1, ensure_ascii=False))
    else:
        shown = Table("prompt", "size", "s/step", "total s")
        finished = all(row["size"] for row in table)
        shown.add_column("picture", no_wrap=finished)  # paths stay whole; a reason for failing may wrap
        for row in table:
            shown.add_row(*row.values())
        out.print(shown)
        path = renders / f"demo-{run}.png"
        picture = sheet(table, path)
        if picture is not None:
            shown_inline = inline(picture, os.environ) if sys.stdout.isatty() else None
            if shown_inline:
                sys.stdout.write(shown_inline)
            out.print(f"all in one: {path}", soft_wrap=True)
    raise typer.Exit(worst(list(ended.values())))


@app.command()
def up(
    worker: Annotated[bool, typer.Option("--worker", help="Run a worker too.")] = False,
) -> None:
    """Run Redis and S3 servers for this machine in the foreground, until Ctrl-C."""
    from worker.demo import farm

    settings = Settings.load()
    if settings.redis_url is not None:
        raise UsageError("KILN_REDIS_URL is set, so other terminals would not look here; unset it")
    ended = threading.Event()
    with _terminable(), farm(settings, worker=worker) as running:
        err.print(f"running in {settings.home.absolute()}; Ctrl-C ends it", markup=False)
        err.print("in another terminal:  kiln worker   kiln submit -m demo 'a prompt' --out .", markup=False)
        while not ended.wait(0.5):
            running.check()


@app.command(name="worker")
def worker_command(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="Serve only these.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
) -> None:
    """Take jobs and render them, one at a time, until told to leave."""
    _needs_worker()
    import logging

    from worker.service import Service, log_to_stderr

    log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    Service(Settings.load(), model or ()).run()


@app.command()
def reap(as_json: JSON = False) -> None:
    """Give back the jobs of dead workers, as every live worker does: for a farm whose workers are all gone.

    Takes 10 s, in which workers that live can renew what they hold.
    """
    import time

    from jobs.connection import connect, explained
    from worker.claims import Claims
    from worker.pulse import GRACE

    settings = Settings.load()
    claims = Claims(connect(settings), "kiln-reap", days=settings.result_days)
    with explained(settings):
        claims.connection.ping()
        time.sleep(GRACE)
        back = claims.reap()
        claims.recover_dependents()
    if as_json:
        print(json.dumps({"queued": back}))
    else:
        for job_id in back:
            out.print(f"{job_id}  queued again", markup=False)


@app.command()
def doctor(as_json: JSON = False) -> None:
    """Tell what is in force and what is wrong, with the command that mends it."""
    _needs_worker()
    from worker.doctor import examine

    findings = examine(Settings.load())
    if as_json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=1))
    else:
        colours = {"ok": "green", "warning": "yellow", "problem": "red"}
        table = Table("", "what", "found", "mend", show_header=False)
        for finding in findings:
            mark = _plain(finding.state, colours[finding.state])
            table.add_row(mark, finding.what, _plain(finding.found), _plain(finding.mend))
        out.print(table)
    problems = [finding for finding in findings if finding.state == "problem"]
    if problems:
        raise typer.Exit(3 if any(f.what in {"redis", "bucket"} for f in problems) else 1)


@models_app.command(name="list")
def models_list(as_json: JSON = False) -> None:
    """List the checkpoints on this machine."""
    from worker.models import installed

    found = installed(Settings.load().models_dir)
    if as_json:
        records = [
            {"model": m.model, "quantization": m.quantization, "folder": str(m.folder)}
            for m in found.values()
        ]
        print(json.dumps(records, indent=1))
        return
    for one in found.values():
        out.print(f"{one.model}  {one.quantization}  {one.folder}", markup=False, soft_wrap=True)


@models_app.command(name="pull")
def models_pull(
    model: Annotated[str, typer.Argument(help="As jobs name it, for instance hidream-o1-dev.")],
    folder: Annotated[Path | None, typer.Option("--to", help="By default in KILN_MODELS_DIR.")] = None,
    repo: Annotated[str | None, typer.Option(help="Another repository of the hub.")] = None,
    revision: Annotated[str | None, typer.Option(help="A commit, branch or tag; the commit is kept.")] = None,
    as_json: JSON = False,
) -> None:
    """Fetch a model's weights from the Hugging Face hub; an interrupted pull goes on where it was."""
    _needs_worker()
    from worker.engines.hidream.pull import pull

    target = folder or Settings.load().models_dir / f"{model}-bf16"
    with _engine_errors():
        _told(pull(model, target, repo_id=repo, revision=revision).model_dump(by_alias=True), target, as_json)


@models_app.command(name="bench")
def models_bench(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A checkpoint folder.", metavar="[CHECKPOINT]")
    ] = None,
    size: Annotated[list[str] | None, typer.Option("--size", "-s", help="WIDTHxHEIGHT, several.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Random weights, where no checkpoint is.")] = False,
    config: Annotated[str, typer.Option(help="With --random: release, or small.")] = "release",
    bits: Annotated[str, typer.Option(help="With --random: widths, for instance 16,8,6.")] = "16",
    steps: Annotated[int, typer.Option(help="Counted steps of each.")] = 8,
    as_json: JSON = False,
) -> None:
    """Measure seconds per step, and how near that is to what this chip's matrix product allows."""
    _needs_worker()
    from worker.engines.blas import use_openblas

    use_openblas()
    from worker.engines.hidream.bench import bench, bench_random
    from worker.engines.hidream.random_weights import CONFIGS

    sizes = [parse_size(text) for text in size or ["1024x1024"]]
    if random == (checkpoint is not None):
        raise UsageError("name a checkpoint folder, or give --random")
    if random and config not in CONFIGS:
        raise UsageError(f"--config: {config!r}; there are {', '.join(CONFIGS)}")
    widths = [int(part) for part in bits.split(",") if part in {"16", "8", "6", "5", "4"}]
    if not widths:
        raise UsageError(f"--bits: {bits!r}; for instance 16,8,6")
    with _engine_errors():
        if checkpoint is None:
            found = bench_random(config, sizes, widths, steps=steps)
        else:
            found = bench(checkpoint, sizes, calibrations=Settings.load().cache_dir, steps=steps)
    if as_json:
        print(json.dumps(found.facts(), indent=1))
        return
    out.print(f"{found.device}, MLX {found.mlx}, {found.arithmetic}", markup=False)
    out.print(f"ceiling of a large matrix product: {found.ceiling / 1e12:.2f} TFLOP/s")
    table = Table("bits", "size", "s/step", "min-max", "TFLOP/s", "of ceiling", "weights GB", "peak GB")
    for row in found.rows:
        table.add_row(
            f"{row.bits} ({row.linears})",
            "x".join(map(str, row.size)),
            f"{row.step:.4f}",
            f"{min(row.seconds):.4f}-{max(row.seconds):.4f}",
            f"{row.achieved / 1e12:.2f}",
            f"{row.fraction:.2f}",
            f"{row.weight_bytes / 1e9:.2f}",
            f"{row.peak_bytes / 1e9:.2f}",
        )
    out.print(table)


@models_app.command(name="convert")
def models_convert(
    source: Annotated[
        Path, typer.Argument(help="A checkpoint folder, of the release or of MLX's community.")
    ],
    target: Annotated[Path, typer.Argument(help="A folder to be made.")],
    bits: Annotated[int, typer.Option(help="4, 5, 6, 8, or 16 to keep every value.")],
    group_size: Annotated[int, typer.Option(help="Weights that share a scale: 32, 64 or 128.")] = 64,
    mixed: Annotated[bool, typer.Option("--mixed", help="More bits where they matter most.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Whose weights, where the folder has no kiln.json.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Make a checkpoint of fewer bits, tensor by tensor; only a whole one carries the target's name."""
    _needs_worker()
    from rich.progress import Progress

    from worker.engines.hidream.convert import convert

    if bits not in {4, 5, 6, 8, 16} or group_size not in {32, 64, 128}:
        raise UsageError("--bits: 4, 5, 6, 8 or 16; --group-size: 32, 64 or 128")
    with _engine_errors(), Progress(console=err, transient=True) as bar:
        task = bar.add_task("converting", total=None)
        manifest = convert(
            source,
            target,
            bits,
            group_size=group_size,
            mixed=mixed,
            model=model,
            progress=lambda name, done, total: bar.update(task, completed=done, total=total),
        )
    _told(manifest.model_dump(by_alias=True), target, as_json)


@models_app.command(name="verify")
def models_verify(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint folder.", metavar="CHECKPOINT")],
    golden: Annotated[Path, typer.Argument(help="A folder of recorded cases.", metavar="GOLDEN_FOLDER")],
    case: Annotated[list[str] | None, typer.Option("--case", help="Only these.")] = None,
    as_json: JSON = False,
) -> None:
    """Replay recorded cases in float32 and compare: for after an MLX upgrade or a conversion."""
    _needs_worker()
    from worker.engines.blas import use_openblas

    use_openblas()
    from worker.engines.hidream.golden import replay

    with _engine_errors():
        results = replay(checkpoint, golden, case)
    records = [_case_record(one) for one in results]
    fine = bool(results) and all(result.ok for result in results)
    if as_json:
        print(json.dumps({"cases": records, "ok": fine}, indent=1))
    else:
        table = Table("case", "x_pred", "z", "image", "")
        for record in records:
            errors = [record.get(key) for key in ("x_pred", "z", "image")]
            numbers = ["" if error is None else f"{error:.2g}" for error in errors]
            said = record.get("skipped") or record.get("error") or "differs"
            table.add_row(record["name"], *numbers, "ok" if record["ok"] else _plain(said))
        out.print(table)
    if not fine:
        raise typer.Exit(1)


@contextmanager
def _engine_errors() -> Iterator[None]:
    """An engine's errors are one line and exit code 1."""
    from worker.engines.engine import EngineError

    try:
        yield
    except EngineError as error:
        raise KilnError(str(error)) from None


def _told(manifest: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Print what a folder holds now."""
    if as_json:
        print(json.dumps(manifest, indent=1))
    else:
        words = f"{folder}: {manifest['model']}, {manifest['bits']} bits, {manifest['digest']}"
        out.print(words, markup=False, soft_wrap=True)


def _case_record(result: CaseResult) -> dict[str, Any]:
    """One case as JSON: what it has, and null where a broken model gave no number."""
    record: dict[str, Any] = {}
    for name, value in asdict(result).items():
        if value is not None:
            record[name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return record | {"ok": result.ok}


class _terminable:  # noqa: N801 - reads as a word where it is used
    """SIGTERM ends the block as Ctrl-C does, so that what it started is ended too."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._interrupt)

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt


def _needs_worker() -> None:
    if importlib.util.find_spec("mlx") is None or importlib.util.find_spec("psutil") is None:
        raise NotReadyError("this needs the worker's packages; run: pip install 'pixelkiln[worker,local]'")


def _plain(text: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(text, style)
