"""The commands that enqueue jobs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from pixelkiln.jobs.catalogue import CATALOGUE, Model
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, Home, NotBefore, Window, parse_size, parse_when, print_json
from pixelkiln.jobs.commands.shares import Draft, Fast
from pixelkiln.jobs.commands.told import tell, tell_of_first
from pixelkiln.jobs.errors import UsageError
from pixelkiln.jobs.fields import SpecFields
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.schema import schema_of
from pixelkiln.jobs.shares import fewer
from pixelkiln.jobs.visible import is_one_word


def _takers(takes: Callable[[Model], bool]) -> str:
    """Which models have an option, as its help says it."""
    return f"Of {', '.join(name for name, model in CATALOGUE.items() if takes(model))}."


def _takes_references(model: Model) -> bool:
    return model.max_references > 0


@app.command()
def submit(
    prompts: Annotated[
        list[str], typer.Argument(help="One prompt or several, each in quotes.", metavar="PROMPT")
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Absent: KILN_MODEL, or one that a worker serves.")
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option("--quantization", "-q", help="bf16, q8, q6, q5 or q4; absent: q6, or what is served."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", "-s", help="WIDTHxHEIGHT in pixels; absent: the model's, or the picture's."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="0 to 9007199254740991; drawn when absent.")] = None,
    steps: Annotated[int | None, typer.Option(help=_takers(lambda one: one.steps.range is not None))] = None,
    coarse_steps: Annotated[
        int | None,
        typer.Option(help=f"So many of the first at half the side. {_takers(lambda one: one.coarse)}"),
    ] = None,
    fast: Fast = False,
    draft: Draft = False,
    guidance: Annotated[
        float | None, typer.Option(help=_takers(lambda one: one.guidance.range is not None))
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help=f"Away from this. {_takers(lambda one: one.negative_prompt)}")
    ] = None,
    ref: Annotated[
        list[Path] | None,
        typer.Option("--ref", "-r", help=f"A reference picture, or several. {_takers(_takes_references)}"),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help=f"Above 0, to 1: how much of it is rendered anew. {_takers(lambda one: one.strength)}"
        ),
    ] = None,
    keep_aspect: Annotated[
        bool,
        typer.Option(help=f"Take the one reference's proportions. {_takers(lambda one: one.keep_aspect)}"),
    ] = False,
    box: Annotated[
        list[str] | None,
        typer.Option(
            help=f"X1,X2,Y1,Y2 in 0 to 1: where the next reference goes. {_takers(lambda one: one.layout)}"
        ),
    ] = None,
    priority: Annotated[str, typer.Option(help="high, normal or low.")] = "normal",
    client: Annotated[str | None, typer.Option(help="Whose job it is (KILN_CLIENT).")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=TEXT, kept in the sidecar.")] = None,
    blend_seams: Annotated[
        int, typer.Option(help=f"Radius in pixels; 0 leaves seams alone. {_takers(lambda one: one.seams)}")
    ] = 0,
    id: Annotated[
        str | None, typer.Option(help="The job's id; one that is there for the same spec is left as it is.")
    ] = None,
    not_before: NotBefore = None,
    window: Window = None,
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
        **fewer(steps, coarse_steps, fast, draft, model, None if size is None else parse_size(size)),
        "guidance": guidance,
        "negative_prompt": negative_prompt,
        "strength": strength,
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
    jobs = kiln.submit_many(specs, ids=[id] if id else None, not_before=parse_when(kiln, not_before, window))
    for path in ref or ():
        tell_of_first(path)
    tell(kiln, jobs, wait=wait or folder is not None, folder=folder, as_json=as_json)


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


@app.command()
def schema(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="What this one accepts; absent: any.")
    ] = None,
) -> None:
    """Print the JSON Schema of a job's spec."""
    if model is not None and model not in CATALOGUE:
        raise UsageError(f"--model: no model {model[:60]!r}; there are {', '.join(CATALOGUE)}")
    print_json(schema_of(model))
