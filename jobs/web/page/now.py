"""*Now*: what renders where, what waits, who works, and what is wrong, with its mend."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from pixelkiln.jobs.batches.standing import eta, pace
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.farm import Farm as TheFarm
from pixelkiln.jobs.queue.queue import Standing
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.web.api.farm import discreet
from pixelkiln.jobs.web.lately import Lately
from pixelkiln.jobs.web.page.frame import show
from pixelkiln.jobs.web.page.standing import Standings
from pixelkiln.jobs.web.page.wrong import paused, wrongs
from pixelkiln.jobs.web.who import Caller, Farm, Known

router = APIRouter()

SHOWN = 24  # jobs being rendered, and failures, that are shown
FRESH = 0.9  # seconds for which a look is good, however many look
LOOKED = 1000  # ends of the last hour that are counted
SAMPLE = 200  # finished jobs whose time tells the pace
BATCHES, CLIENTS = 6, 12  # the newest of each client, of so many, that are looked at for what is under way
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits of one client, of one kind and priority."""

    lane: Lane
    queued: int
    started: int
    later: int
    eta: float | None  # seconds until all that wait for such workers are done
    paused: bool  # none of it is taken until somebody resumes it


@router.get("/")
def get_now(request: Request, kiln: Farm, caller: Known) -> Response:
    """Everything at one moment; page.js asks again whenever something happens."""
    known: Standings = request.app.state.standings
    seen: Lately[dict[str, Any]] = request.app.state.lately
    context = seen.get((caller.admin, caller.client), FRESH, lambda: _seen(kiln, caller, known))
    return show(request, "now.html", many=SHOWN, may_order=kiln.may_order, **context)


def _seen(kiln: Kiln, caller: Caller, known: Standings) -> dict[str, Any]:
    """What the page tells; the same for all who see as much."""
    whose = None if caller.admin else caller.client
    farm = kiln.farm()
    workers = [one if caller.admin else discreet(one, caller) for one in farm.workers]
    running, _ = kiln.page(state="started", client=whose, limit=SHOWN)
    failed = kiln.jobs(state="failed", client=whose, since=HOUR, limit=SHOWN)
    waiting = _waiting(kiln, farm, caller)
    clients = [kiln.as_client(one) for one in _clients(waiting, caller)]
    at_work = _with_specs(kiln, running)
    return {
        "running": at_work,
        "prompts": {job.id: spec.prompt if spec else "" for job, spec in at_work},
        "failed": _with_specs(kiln, failed),
        "waiting": waiting,
        "workers": workers,
        "batches": [one for client in clients for one in known.of(client, BATCHES, under_way=True)],
        "wrong": wrongs(farm, workers, waiting, caller),
        "counts": _counts(kiln, waiting, whose),
    }


def _with_specs(kiln: Kiln, statuses: list[JobStatus]) -> list[tuple[JobStatus, RenderSpec | None]]:
    specs = kiln.specs(statuses)
    return [(one, specs.get(one.id)) for one in statuses]


def _waiting(kiln: Kiln, farm: TheFarm, caller: Caller) -> list[Waiting]:
    """Lanes in which something waits or is rendered; of whole kinds it is told how long they take."""
    lanes = [(lane, one) for one in farm.lanes if (lane := Lane.parse(one.lane))]
    totals: dict[str, int] = {}
    for lane, one in lanes:
        totals[lane.kind] = totals.get(lane.kind, 0) + one.queued + one.started
    past = kiln.jobs(state="finished", client=None, limit=SAMPLE) if any(totals.values()) else []
    by_kind: dict[str, list[Standing]] = {}
    for job in past:
        if of := Lane.parse(job.lane):
            by_kind.setdefault(of.kind, []).append(Standing("finished", job.started_at, job.ended_at))
    return [
        Waiting(
            lane,
            one.queued,
            one.started,
            one.later,
            _eta(farm, lane.kind, totals, by_kind),
            bool(paused(farm, lane)),
        )
        for lane, one in lanes
        if (caller.admin or lane.client == caller.client) and one.queued + one.started + one.later
    ]


def _eta(farm: TheFarm, kind: str, totals: dict[str, int], past: dict[str, list[Standing]]) -> float | None:
    serving = sum(not one.gone and kind in one.serves for one in farm.workers)
    return eta(totals[kind], pace(past.get(kind, ())), serving)


def _clients(waiting: list[Waiting], caller: Caller) -> list[str]:
    """Whose batches are looked at."""
    return list(dict.fromkeys([caller.client, *(one.lane.client for one in waiting)]))[:CLIENTS]


def _counts(kiln: Kiln, waiting: list[Waiting], whose: str | None) -> dict[str, tuple[str, int]]:
    """The large numbers: by what they are, their colour and how many."""
    ended = {
        state: len(kiln.marks([state], client=whose, since=HOUR, limit=LOOKED))
        for state in ("finished", "failed")
    }
    return {
        "being rendered": ("render", sum(one.started for one in waiting)),
        "waiting": ("waiting", sum(one.queued + one.later for one in waiting)),
        "finished in the last hour": ("finished", ended["finished"]),
        "failed in the last hour": ("failed", ended["failed"]),
    }
