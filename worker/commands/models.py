"""The commands about checkpoints: `kiln models …`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pixelkiln.jobs.catalogue import DEFAULT_MODEL
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, err, out
from pixelkiln.jobs.errors import KilnError, UsageError
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.packages import needs_worker

if TYPE_CHECKING:
    from pixelkiln.worker.engines.checkpoints.manifest import Manifest
    from pixelkiln.worker.engines.family import Case

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
    with engine_errors():
        made = family_of(model).pull(model, target, repo, revision)
    _told(made, target, as_json)


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
    with engine_errors(), Progress(console=err, transient=True) as bar:
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
        with engine_errors():
            found = engines.check_digest(checkpoint)
        if not as_json:
            out.print(f"{checkpoint}: {found}, as {NAME} says", markup=False, soft_wrap=True)
        elif golden is None:
            print(json.dumps({"digest": found, "ok": True}, indent=1))
    if golden is None:
        return

    with engine_errors():
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
def engine_errors() -> Iterator[None]:
    """An engine's errors, and a disk's, are one line and exit code 1."""
    from pixelkiln.worker.engines.engine import EngineError

    try:
        yield
    except EngineError as error:
        raise KilnError(str(error)) from None
    except OSError as error:
        raise KilnError(f"{error.filename or 'the disk'}: {error.strerror or error}") from None


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
