"""`kiln models bench`: how fast a checkpoint computes here, and what else this chip may compute by."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pixelkiln.jobs.catalogue import DEFAULT_MODEL
from pixelkiln.jobs.commands.output import JSON, err, out, parse_size
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.models import engine_errors, models_app
from pixelkiln.worker.commands.packages import needs_worker

if TYPE_CHECKING:
    from pixelkiln.worker.engines.family import Bench, Share, Size


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
    explore: Annotated[
        bool,
        typer.Option("--explore", help="Time what else this chip may compute by, and say what to choose."),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Measure seconds per step, and how near that is to what this chip's matrix product allows."""
    needs_worker()
    from pixelkiln.worker import engines
    from pixelkiln.worker.engines.families import family_of

    sizes = [parse_size(text) for text in size or ["1024x1024"]]
    if random == (checkpoint is not None):
        raise UsageError("name a checkpoint folder, or give --random")
    if explore:
        if checkpoint is None:
            raise UsageError("--explore: name a checkpoint folder")
        _explore(checkpoint, sizes[0], steps, as_json)
        return
    widths = [int(part) for part in bits.split(",") if part in {"16", "8", "6", "5", "4"}]
    if not widths:
        raise UsageError(f"--bits: {bits!r}; for instance 16,8,6")
    halves: engines.Halves | None = None
    shares = [_share(text) for text in picture or ()]
    with engine_errors(), _telling() as told:
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


def _explore(checkpoint: Path, size: Size, steps: int, as_json: bool) -> None:
    """Print a table of other ways, and what to choose."""
    from pixelkiln.worker.engines.explore import explore

    settings = Settings.here()
    with engine_errors(), _telling() as told:
        found = explore(checkpoint, size, steps, settings.cache_dir, settings.arithmetic, told)
    if as_json:
        print(json.dumps({**asdict(found), "advice": found.advice()}, indent=1))
        return
    out.print(f"{found.chip}, MLX {found.mlx}, {found.bits} bits, {'x'.join(map(str, size))}", markup=False)
    table = Table("", "", "s", "of what is in force")
    for one, share in found.shares():
        taken = "overflows" if one.seconds is None else f"{one.seconds:.4f}"
        table.add_row(one.thing, one.way, taken, "" if share is None else f"{share:.2f}")
    out.print(table)
    for line in found.advice():
        out.print(line, markup=False, soft_wrap=True)


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


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """Shows what is measured now: in place on a terminal, elsewhere a line each."""
    with err.status("loading and measuring") as status:
        yield status.update if err.is_terminal else err.print
