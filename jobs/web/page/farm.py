"""*Farm*, for admins: the workers, what is paused, and the orders that pause, resume and drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.control.controls import NO_KEY
from pixelkiln.jobs.control.orders import Target, Verb
from pixelkiln.jobs.control.reach import told
from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.web.api.farm import Asked, post_order
from pixelkiln.jobs.web.page.acts import asked
from pixelkiln.jobs.web.page.frame import Posted, address, after, field_of, show
from pixelkiln.jobs.web.page.standing import Standings
from pixelkiln.jobs.web.who import Admin, Farm

router = APIRouter()

_DONE: dict[Verb, str] = {"pause": "paused", "resume": "not paused any more", "drain": "leaves"}
BATCHES, CLIENTS = 6, 12  # the newest of each client, of so many


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that can be paused together: of a client, or of a model."""

    target: str
    name: str
    waiting: int
    started: int
    paused: bool


@router.get("/farm")
def get_farm(
    request: Request,
    kiln: Farm,
    caller: Admin,
    done: Verb | None = None,
    target: Annotated[str, Query(max_length=100)] = "",
    reached: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Everything that orders can be about; and what was ordered just now."""
    said = f"{Target.parse(target)} {_DONE[done]}{told(reached)}" if done else ""
    return _shown(request, kiln, said=said)


@router.post("/farm/orders")
def post_farm(request: Request, kiln: Farm, caller: Admin, form: Posted) -> Response:
    """Give an order; a drain is asked first."""
    target = field_of(form, "target").strip()
    try:
        about = Target.parse(target)
        verb = next((one for one in _DONE if one == field_of(form, "verb")), None)
        if verb is None:
            raise UsageError(f"verb: must be {', '.join(_DONE)}")
        if verb == "drain" and not field_of(form, "sure"):
            whom = "all workers" if about.kind == "farm" else about.name
            return asked(
                request,
                form,
                title=f"Drain {whom}?",
                what="The running job is finished and delivered, then it leaves. It does not come back by"
                " itself unless a service starts it.",
                button=f"Drain {whom}",
                back="/farm",
            )
        order = Asked(verb=verb, target=str(about), now=bool(field_of(form, "now")))
        given = post_order(kiln, caller, order)
    except UsageError as error:
        return _shown(request, kiln, 422, fault=str(error))
    except NotReadyError as error:
        if kiln.may_order:
            raise
        return _shown(request, kiln, 503, fault=str(error))
    return after(address("/farm", done=verb, target=given.order.target, reached=given.reached))


def _shown(
    request: Request,
    kiln: Kiln,
    status: int = 200,
    *,
    fault: str = "",
    said: str = "",
) -> Response:
    farm = kiln.farm()
    lanes = [(lane, one) for one in farm.lanes if (lane := Lane.parse(one.lane))]
    models = {one.partition(":")[0] for one in farm.served}
    clients = {lane.client for lane, _ in lanes}

    def grouped(kind: str, names: set[str]) -> list[Group]:
        found = []
        names = names | {one.partition(":")[2] for one in farm.paused if one.startswith(f"{kind}:")}
        for name in sorted(names):
            mine = [one for lane, one in lanes if name == (lane.client if kind == "client" else lane.model)]
            waiting, started = sum(one.queued + one.later for one in mine), sum(one.started for one in mine)
            target = f"{kind}:{name}"
            found.append(Group(target, name, waiting, started, target in farm.paused))
        return found

    known: Standings = request.app.state.standings
    theirs = [kiln.as_client(one) for one in sorted(clients)[:CLIENTS]]
    return show(
        request,
        "farm.html",
        status,
        farm=farm,
        workers=farm.workers,
        clients=grouped("client", clients),
        models=grouped("model", models | {lane.model for lane, _ in lanes}),
        batches=[one for client in theirs for one in known.of(client, BATCHES, under_way=True)],
        may_order=kiln.may_order,
        no_key=NO_KEY,
        fault=fault,
        said=said,
        ignoring=kiln.workers_ignoring_orders() if kiln.may_order else [],
    )
