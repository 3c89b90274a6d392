"""The commands that control a farm while it runs: cancel, pause, resume, drain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from pixelkiln.jobs.batches.batch import Batch
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.app import app
from pixelkiln.jobs.commands.naming import PARTLY, each, named
from pixelkiln.jobs.commands.output import JSON, err, out, print_json
from pixelkiln.jobs.control.orders import Order, Target
from pixelkiln.jobs.control.reach import reached, told
from pixelkiln.jobs.errors import KilnError, NotReadyError
from pixelkiln.jobs.queue.queue import CancelOutcome

_LEFT: dict[CancelOutcome, str] = {  # what a job was, where it was not there to be cancelled
    "unknown": "no such job",
    "foreign": "another client's; --any-client cancels it",
    "finished": "had finished already",
    "failed": "had failed already",
    "cancelled": "was cancelled already",
}
WHOM = "farm, client:NAME, model:NAME or worker:NAME"
Whom = Annotated[list[Target], typer.Argument(help=f"{WHOM}.", metavar="TARGET", parser=Target.parse)]
Paused = Annotated[list[str], typer.Argument(help=f"A batch by name; or {WHOM}.", metavar="NAME|TARGET")]


@app.command()
def cancel(
    what: Annotated[
        list[str], typer.Argument(help=f"Jobs, batches; or {WHOM}: all of it.", metavar="ID|NAME|TARGET")
    ],
    any_client: Annotated[bool, typer.Option("--any-client", help="Other clients' too.")] = False,
    as_json: JSON = False,
) -> None:
    """Cancel jobs: queued ones are gone, running ones stop, finished pictures are not stored."""
    kiln = Kiln()
    targets = [Target.parse(one) for one in what if _is_target(one)]
    others, faults = each([one for one in what if not _is_target(one)], lambda one: named(kiln, one))
    answers = kiln.cancel([one for one in others if isinstance(one, str)], any_client=any_client)
    for batch in others:
        answers |= batch.cancel() if isinstance(batch, Batch) else {}
    for target in targets:
        answers |= kiln.cancel_all(target, any_client=any_client)
    if as_json:
        print_json(answers)
    else:
        for job_id, was in answers.items():
            print(f"{job_id}  {_LEFT.get(was, 'cancelled')}")
        if not answers:
            whose = "" if any_client else f" of client {kiln.settings.client}"
            err.print(f"kiln: nothing{whose} is there to cancel")
    wrong = [was for was in answers.values() if was in {"unknown", "foreign"}]
    if wrong or faults:
        raise typer.Exit(PARTLY if len(wrong) < len(answers) else KilnError.exit_code)


@app.command()
def pause(whom: Paused, as_json: JSON = False) -> None:
    """Let no more jobs be taken, until `kiln resume`; what is being rendered goes on."""
    kiln = Kiln()
    _stopped(kiln, whom, kiln.pause, Batch.pause, "paused", as_json)


@app.command()
def resume(whom: Paused, as_json: JSON = False) -> None:
    """End a pause of the very same target."""
    kiln = Kiln()
    _stopped(kiln, whom, kiln.resume, Batch.resume, "not paused any more", as_json)


@app.command()
def drain(
    whom: Whom,
    now: Annotated[bool, typer.Option("--now", help="Give the running job back, do not finish it.")] = False,
    as_json: JSON = False,
) -> None:
    """Let workers finish the running job, deliver what they rendered, and leave."""
    kiln = Kiln()
    _told(kiln, [kiln.drain(one, now=now) for one in whom], "leaves", as_json)


def _stopped(
    kiln: Kiln,
    whom: list[str],
    order: Callable[[Target], Order],
    act: Callable[[Batch], int],
    done: str,
    as_json: bool,
) -> None:
    """Pause or resume each: an order for what workers know, a batch by its jobs' places, without a key."""

    def meant(text: str) -> Target | Batch:
        if not _is_target(text):
            one = named(kiln, text)
            if isinstance(one, Batch):
                return one
        return Target.parse(text)

    found = [meant(text) for text in whom]  # what is mistyped is refused whole, as wrong use
    ordered = [order(one) for one in found if isinstance(one, Target)]
    waiting = {one.name: act(one) for one in found if isinstance(one, Batch)}
    if ordered or not waiting:
        _told(kiln, ordered, done, as_json, [{"batch": name, "jobs": n} for name, n in waiting.items()])
    elif as_json:
        print_json([{"batch": name, "jobs": number} for name, number in waiting.items()])
    if not as_json:
        for name, number in waiting.items():
            out.print(f"{name}  {done}  ({number:,} job{'' if number == 1 else 's'})")


def _told(
    kiln: Kiln, given: list[Order], done: str, as_json: bool, more: Sequence[dict[str, object]] = ()
) -> None:
    """Say what was ordered, and who will not obey."""
    heard = reached(kiln, given)
    if as_json:
        orders = [order.model_dump() | {"reached": heard.get(order.target)} for order in given]
        print_json([*orders, *more])
    else:
        for order in given:
            out.print(f"{order.target}  {done}{told(heard.get(order.target))}")
    try:
        ignoring = kiln.workers_ignoring_orders()
    except NotReadyError:  # the orders are given
        ignoring = []
    if ignoring:
        err.print(f"kiln: {', '.join(ignoring)}: no KILN_ADMIN_KEY, or another; will not obey")


def _is_target(text: str) -> bool:
    return text == "farm" or (":" in text and not text.startswith("batch:"))  # no job's id has a colon
