"""The commands about checkpoints: `kiln models …`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pixelkiln.jobs.catalogue import DEFAULT_MODEL
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, err, out, parse_size
from pixelkiln.jobs.errors import KilnError, UsageError
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.packages import needs_worker

if TYPE_CHECKING:
    from pixelkiln.worker.engines.checkpoints.manifest import Manifest
    from pixelkiln.worker.engines.family import Bench, Case, Share

models_app = typer.Typer(help="Checkpoints: what is here, and whether it computes what it should.")
app.add_typer(models_app, name="models", no_args_is_help=True)


@models_app.command(name="list")
def models_list(as_json: JSON = False) -> None:
    """List the checkpoints on this machine."""
    from pixelkiln.worker.engines.checkpoints.installed import installed, left_out

    models_dir = Settings.here().models_dir
    found = installed(models_dir)
    for why in left_out(models_dir).values():
        err.print(f"kiln: {why}", soft_wrap=True)
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
    model: Annotated[str, typer.Argument(help=f"As jobs name it, for instance {DEFAULT_MODEL}.")],
    folder: Annotated[Path | None, typer.Option("--to", help="By default in KILN_MODELS_DIR.")] = None,
    repo: Annotated[str | None, typer.Option(help="Another repository of the hub.")] = None,
    revision: Annotated[str | None, typer.Option(help="A commit, branch or tag; the commit is kept.")] = None,
    as_json: JSON = False,
) -> None:
    """Fetch a model's weights from the Hugging Face hub; an interrupted pull goes on where it was."""
    needs_worker()
    from pixelkiln.worker.engines.families import family_of

    target = folder or Settings.here().models_dir / f"{model}-bf16"
    with _engine_errors():
        made = family_of(model).pull(model, target, repo, revision)
    _told(made, target, as_json)


@models_app.command(name="bench")
def models_bench(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A checkpoint folder.", metavar="[CHECKPOINT]")
    ] = None,
    size: Annotated[list[str] | None, typer.Option("--size", "-s", help="WIDTHxHEIGHT, several.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Random weights, where no checkpoint is.")] = False,
    model: Annotated[str, typer.Option(help="With --random: whose sizes.")] = DEFAULT_MODEL,
    config: Annotated[str, typer.Option(help="With --random: release, or small.")] = "release",
    bits: Annotated[str, typer.Option(help="With --random: widths, for instance 16,8,6.")] = "16",
    steps: Annotated[int, typer.Option(help="Counted steps of each.")] = 8,
    picture: Annotated[
        list[str] | None,
        typer.Option(help="STEPS or STEPS:COARSE, several: whole pictures too, so many steps coarse."),
    ] = None,
    compare: Annotated[
        bool | None,
        typer.Option(help="Time bfloat16 against float16 and say which suits; by default on a Mac's GPU."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Measure seconds per step, and how near that is to what this chip's matrix product allows."""
    needs_worker()
    from pixelkiln.worker import engines
    from pixelkiln.worker.engines.families import family_of

    sizes = [parse_size(text) for text in size or ["1024x1024"]]
    if random == (checkpoint is not None):
        raise UsageError("name a checkpoint folder, or give --random")
    widths = [int(part) for part in bits.split(",") if part in {"16", "8", "6", "5", "4"}]
    if not widths:
        raise UsageError(f"--bits: {bits!r}; for instance 16,8,6")
    halves: engines.Halves | None = None
    shares = [_share(text) for text in picture or ()]
    with _engine_errors(), _telling() as told:
        if checkpoint is not None:
            cache = Settings.here().cache_dir
            found = engines.bench(checkpoint, sizes, steps, cache, told=told, shares=shares)
            if engines.device_facts().metal if compare is None else compare:
                halves = engines.compare(checkpoint, sizes[0], steps, cache, told)
        else:
            family = family_of(model)
            if config not in family.configs:
                raise UsageError(f"--config: {config!r}; there are {', '.join(family.configs)}")
            found = family.bench_random(config, sizes, widths, steps, told, shares)
    if as_json:
        print(json.dumps({**found.facts(), "halves": asdict(halves) if halves else None}, indent=1))
        return
    _show(found)
    if halves:
        out.print(f"{halves}; to choose it: KILN_ARITHMETIC={halves.suits}", markup=False)


def _share(text: str) -> Share:
    """Steps, and how many are coarse. Raises UsageError."""
    steps, _, coarse = text.partition(":")
    if not (steps.isdecimal() and (coarse or "0").isdecimal() and int(coarse or 0) < int(steps)):
        raise UsageError(f"--picture: {text!r} is not STEPS or STEPS:COARSE, for instance 28:18")
    return int(steps), int(coarse or 0)


def _show(found: Bench) -> None:
    """Print a table of what was measured."""
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
    for one in found.pictures:
        out.print(
            f"{one.bits} bits, {'x'.join(map(str, one.size))}, {one.steps} steps, {one.coarse_steps} coarse:"
            f" {median(one.seconds):.3f} s a picture ({min(one.seconds):.3f}-{max(one.seconds):.3f})",
            markup=False,
        )


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
    lora: Annotated[
        Path | None, typer.Option(help="A Lightning file to fuse into Qwen-Image's weights first.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Make a checkpoint of fewer bits, tensor by tensor; only a whole one carries the target's name."""
    needs_worker()
    from rich.progress import Progress

    from pixelkiln.worker.engines.families import family_in

    if bits not in {4, 5, 6, 8, 16} or group_size not in {32, 64, 128}:
        raise UsageError("--bits: 4, 5, 6, 8 or 16; --group-size: 32, 64 or 128")
    with _engine_errors(), Progress(console=err, transient=True) as bar:
        task = bar.add_task("converting", total=None)
        manifest = family_in(source, model).convert(
            source,
            target,
            bits,
            group_size=group_size,
            mixed=mixed,
            model=model,
            progress=lambda name, done, total: bar.update(task, completed=done, total=total),
            lora=lora,
        )
    _told(manifest, target, as_json)


@models_app.command(name="verify")
def models_verify(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint folder.", metavar="CHECKPOINT")],
    golden: Annotated[
        Path | None, typer.Argument(help="A folder of recorded cases.", metavar="[GOLDEN_FOLDER]")
    ] = None,
    case: Annotated[list[str] | None, typer.Option("--case", help="Only these.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Whose weights, where the folder has no kiln.json.")
    ] = None,
    digest: Annotated[
        bool, typer.Option("--digest", help="Read the weights and compare their digest with kiln.json's.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Replay recorded cases in float32 and compare: for after an MLX upgrade or a conversion."""
    needs_worker()
    from pixelkiln.worker import engines
    from pixelkiln.worker.engines.checkpoints.manifest import NAME

    if golden is None and not digest:
        raise UsageError("name a folder of recorded cases, or give --digest")
    if digest:
        with _engine_errors():
            found = engines.check_digest(checkpoint)
        if not as_json:
            out.print(f"{checkpoint}: {found}, as {NAME} says", markup=False, soft_wrap=True)
        elif golden is None:
            print(json.dumps({"digest": found, "ok": True}, indent=1))
    if golden is None:
        return

    with _engine_errors():
        cases = engines.verify(checkpoint, golden, case, model)
    fine = bool(cases) and all(one.ok for one in cases)
    if as_json:
        print(json.dumps({"cases": [_case_record(one) for one in cases], "ok": fine}, indent=1))
    else:
        compared = list(dict.fromkeys(name for one in cases for name in one.errors))
        table = Table("case", *compared, "")
        for one in cases:
            numbers = [f"{one.errors[name]:.2g}" if name in one.errors else "" for name in compared]
            table.add_row(one.name, *numbers, "ok" if one.ok else one.fault or "differs")
        out.print(table)
    if not fine:
        raise typer.Exit(1)


@contextmanager
def _engine_errors() -> Iterator[None]:
    """An engine's errors, and a disk's, are one line and exit code 1."""
    from pixelkiln.worker.engines.engine import EngineError

    try:
        yield
    except EngineError as error:
        raise KilnError(str(error)) from None
    except OSError as error:
        raise KilnError(f"{error.filename or 'the disk'}: {error.strerror or error}") from None


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """Shows what is measured now: in place on a terminal, elsewhere a line each."""
    with err.status("loading and measuring") as status:
        yield status.update if err.is_terminal else err.print


def _told(manifest: Manifest, folder: Path, as_json: bool) -> None:
    """Print what a folder holds now."""
    if as_json:
        print(json.dumps(manifest.model_dump(by_alias=True), indent=1))
    else:
        words = f"{folder}: {manifest.model}, {manifest.bits} bits, {manifest.digest}"
        out.print(words, markup=False, soft_wrap=True)


def _case_record(case: Case) -> dict[str, Any]:
    """One case as JSON: its errors by name, null where a broken model gave no number."""
    errors = {name: value if math.isfinite(value) else None for name, value in case.errors.items()}
    fault = {} if case.fault is None else {"error": case.fault}
    return {"name": case.name, **errors, **fault, "ok": case.ok}
