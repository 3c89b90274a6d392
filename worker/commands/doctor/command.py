"""The command that tells what is in force and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, err, out
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.packages import needs_worker
from pixelkiln.worker.host import programs

if TYPE_CHECKING:
    from pixelkiln.worker.commands.doctor.finding import Finding

SOAK = 300.0  # seconds


@app.command()
def doctor(
    mac: Annotated[
        bool, typer.Option("--mac", help="Only what macOS does otherwise; tells what, elsewhere.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write all of it, measurements too, to a file for an issue."),
    ] = None,
    soak: Annotated[float, typer.Option("--soak", min=0, help="Seconds of the report's soak.")] = SOAK,
    golden: Annotated[
        Path | None, typer.Option("--golden", help="Goldens for the report, where no checkout is.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Tell what is in force and what is wrong, with the command that mends it."""
    needs_worker()
    from pixelkiln.worker.commands.doctor.looks import examine

    if report is not None:
        _report(report, soak, golden)
        return
    if mac and not programs.mac():
        _plan(as_json)
        return
    settings = Settings.load()
    findings = _on_mac(settings) if mac else examine(settings)
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


def _plain(text: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(text, style)


def _on_mac(settings: Settings) -> list[Finding]:
    from pixelkiln.worker.commands.doctor.mac import look

    return look(settings)


def _plan(as_json: bool) -> None:
    """This is no Mac: say what would be looked at on one, and how."""
    from pixelkiln.worker.commands.doctor.mac import planned

    if as_json:
        print(json.dumps(planned(), indent=1))
        return
    table = Table("on a Mac", "it would look at", "by")
    for one in planned():
        table.add_row(one["what"], one["tells"], _plain(one["by"]))
    out.print(table)


def _report(path: Path, soak: float, golden: Path | None) -> None:
    from pixelkiln.worker.commands.doctor.report import write_report

    def progress(words: str) -> None:
        err.print(f"kiln: {words}", markup=False)

    progress(f"this takes about {3 + soak / 60:.0f} minutes and renders all the while")
    write_report(path, Settings.load(), soak=soak, golden=golden, progress=progress)
    out.print(f"{path}: read it, then attach it to an issue", markup=False, soft_wrap=True)
