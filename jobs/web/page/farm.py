"""*Farm*, for admins: the workers, what is paused, and the orders that pause, resume and drain."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.control.controls import NO_KEY
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.control.reach import told
from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.web.api.farm import Asked, post_order
from pixelkiln.jobs.web.page.acts import asked
from pixelkiln.jobs.web.page.frame import Posted, after, field_of, show
from pixelkiln.jobs.web.page.standing import Standings
from pixelkiln.jobs.web.who import Admin, Farm

router = APIRouter()

_DONE = {"pause": "paused", "resume": "not paused any more", "drain": "leaves"}
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
def get_farm(request: Request, kiln: Farm, caller: Admin) -> Response:
    """Everything that orders can be about."""
    return _shown(request, kiln)


@router.post("/farm/orders")
def post_farm(request: Request, kiln: Farm, caller: Admin, form: Posted) -> Response:
    """Give an order; a drain is asked first."""
    verb, target = field_of(form, "verb"), field_of(form, "target").strip()
    try:
        about = Target.parse(target)
        if verb not in _DONE:
            raise UsageError(f"verb: must be {', '.join(_DONE)}, not {verb[:20]!r}")
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
        order = Asked(verb=verb, target=str(about), now=bool(field_of(form, "now")))  # type: ignore[arg-type]
        given = post_order(kiln, caller, order)
    except UsageError as error:
        return _shown(request, kiln, 422, fault=str(error), typed=target)
    except NotReadyError as error:
        if kiln.may_order:
            raise
        return _shown(request, kiln, 503, fault=str(error))
    said = f"{given.order.target} {_DONE[verb]}{told(given.reached)}"
    if "hx-request" in request.headers or given.ignoring:
        return _shown(request, kiln, said=said, ignoring=given.ignoring)
    return after("/farm")


def _shown(
    request: Request,
    kiln: Kiln,
    status: int = 200,
    *,
    fault: str = "",
    said: str = "",
    ignoring: list[str] | None = None,
    typed: str = "",
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
        batches=[one for client in theirs for one in known.of(client, BATCHES) if one.open],
        may_order=kiln.may_order,
        no_key=NO_KEY,
        fault=fault,
        said=said,
        ignoring=ignoring or [],
        typed=typed,
    )
