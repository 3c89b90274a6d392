"""The commands that tell how jobs, batches and the farm fare, and bring pictures home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.jobs.batches.names import DEFAULT
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands import about, leaving
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.desk import tell_desk
from pixelkiln.jobs.commands.farm import show
from pixelkiln.jobs.commands.naming import PARTLY, each, end, named
from pixelkiln.jobs.commands.output import JSON, Out, err, out, print_json
from pixelkiln.jobs.commands.progress import follow, worst
from pixelkiln.jobs.commands.told import tell_of_deadline
from pixelkiln.jobs.errors import KilnError, UsageError

Which = Annotated[list[str], typer.Argument(help="Jobs, or batches by name.", metavar="ID|NAME")]


@app.command()
def status(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Jobs, or batches by name; none: the farm.", metavar="[ID|NAME]"),
    ] = None,
    whole: Annotated[bool, typer.Option("--all", help="Every lane and worker, however many.")] = False,
    as_json: JSON = False,
) -> None:
    """Tell how jobs and batches fare, or what waits and who works; of many lanes, totals and the busiest."""
    kiln = Kiln()
    if not ids:
        farm = kiln.farm()
        if as_json:
            print_json(farm.as_dict())
        else:
            show(farm, whole)
        return

    def tell(text: str) -> dict[str, Any]:
        one = named(kiln, text)
        if isinstance(one, Batch):
            batch = one.status()
            if not as_json:
                about.show_batch(batch, {entry.id: entry.prompt for entry in one.entries})
            return batch.as_dict()
        found = kiln.status(one)
        more = about.facts(kiln, found)
        if not as_json:
            out.print(about.job(found, more, kiln.settings.zone), markup=False, soft_wrap=True)
            if found.state == "failed":
                err.print(f"kiln: to try it again: kiln retry {one}")
        return found.as_dict() | more

    told, faults = each(ids, tell)
    if as_json:
        print_json(told if len(ids) > 1 else told[0])
    end(told, faults)


@app.command()
def watch(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Jobs, or batches by name; none: the farm.", metavar="[ID|NAME]"),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Of the farm: one frame, and no more.")] = False,
    previews: Annotated[
        bool | None,
        typer.Option(help="Of the farm: pictures so far; absent: where the terminal is known to show any."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Follow jobs and batches until they have ended, or the farm until q; with --json, a line a change."""
    kiln = Kiln()
    if not ids:
        from pixelkiln.jobs.commands.live.command import watch_farm

        watch_farm(kiln, once=once, as_json=as_json, previews=previews)
        return
    if once or previews is not None:
        raise UsageError("--once and --previews are of the farm: kiln watch, without jobs or batches")
    prompts: dict[str, str] = {}
    found: list[Batch] = []

    def known(text: str) -> None:
        one = named(kiln, text)
        if isinstance(one, Batch):
            found.append(one)
            standing = one.standing()
            sent = {entry.id: entry.prompt for entry in one.entries if standing[entry.id] is not None}
            prompts.update(sent)
            tell_of_deadline(one)
            if missing := len(one.entries) - len(sent):
                err.print(f"kiln: {missing:,} of {one.name} were never sent: kiln retry {one.name}")
        else:
            kiln.status(one)
            prompts.setdefault(one, one)

    _, faults = each(ids, known)
    with leaving.told("the jobs go on without this; come back with:", f"  kiln watch {' '.join(ids)}"):
        if as_json:
            last = {}
            for status in kiln.watch(list(prompts)):
                print(json.dumps(status.as_dict()), flush=True)
                last[status.id] = status
        else:
            last = follow(kiln, prompts, out)
    for one in found:
        tell_desk(kiln.settings, one)
    code = worst(list(last.values()))
    raise typer.Exit(code if not faults else PARTLY if last else faults[0].exit_code)


@app.command()
def fetch(
    ids: Which,
    folder: Out = Path(),
    link: Annotated[
        bool, typer.Option("--link", help="Print addresses that need no credentials, for a day, instead.")
    ] = False,
    names: Annotated[
        str, typer.Option(help="What pictures of a batch are called; {label.NAME}, {id}, {model}, … as well.")
    ] = DEFAULT,
    as_json: JSON = False,
) -> None:
    """Bring pictures and sidecars home, checksums compared; what is there already is not asked for again.

    A job's are ID.png and ID.json; those of a batch have readable names.
    """
    kiln = Kiln()
    found: list[dict[str, str]] = []

    def came(job_id: str, what: str) -> None:
        found.append({"id": job_id, "link" if link else "png": what})
        if not as_json:
            print(what)

    def bring(text: str) -> None:
        one = named(kiln, text)
        if not isinstance(one, Batch):
            came(one, kiln.link(one) if link else str(kiln.fetch(one, folder)))
            return
        if link:
            standing = one.standing()
            ready = [job_id for job_id, now in standing.items() if now and now.state == "finished"]
            _, wrong = each(ready, lambda job_id: came(job_id, kiln.link(job_id)))
        else:
            home = one.fetch(folder, names=names, came=lambda job_id, path: came(job_id, str(path)))
            wrong = list(home.faults.values())
            for error in wrong:
                err.print(f"kiln: {error}", soft_wrap=True)
        faults.extend(wrong)
        status = one.status()
        if status.finished < status.total:
            faults.append(KilnError("some have no picture"))
            err.print(f"kiln: {one.name}: {about.counts(status)}", soft_wrap=True)

    faults: list[KilnError] = []
    _, wrong = each(ids, bring)
    if as_json:
        print_json(found)
    end(found, faults + wrong)
