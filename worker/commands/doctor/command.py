"""The command that tells what is in force and what is wrong."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.table import Table

from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.output import JSON, out
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker.commands.packages import needs_worker


@app.command()
def doctor(as_json: JSON = False) -> None:
    """Tell what is in force and what is wrong, with the command that mends it."""
    needs_worker()
    from pixelkiln.worker.commands.doctor.looks import examine

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


def _plain(text: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(text, style)
