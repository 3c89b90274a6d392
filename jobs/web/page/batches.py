"""*Batches*, and one of them: how far it is, what failed and why, its pictures and its report."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from starlette.responses import Response

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.web.page.frame import show
from pixelkiln.jobs.web.page.gallery import pictures_of
from pixelkiln.jobs.web.page.pictures import Wanted
from pixelkiln.jobs.web.page.standing import Standings
from pixelkiln.jobs.web.reading import WithBucket
from pixelkiln.jobs.web.who import Caller, Known, whose

router = APIRouter()

SHOWN = 30  # batches of a page
FAILURES = 50  # of a batch
PICTURES = 24

Named = Annotated[str, InPath(pattern=f"^{JOB_ID.pattern}$")]
Whose = Annotated[str, Query(max_length=48)]


@router.get("/batches")
def get_batches(request: Request, kiln: WithBucket, caller: Known, client: Whose = "") -> Response:
    """The newest of a client."""
    theirs = whose(kiln, caller, client or None)
    known: Standings = request.app.state.standings
    return show(
        request,
        "batches.html",
        batches=known.of(theirs, SHOWN),
        client=theirs.settings.client,
        clients=_clients(kiln, caller),
        many=SHOWN,
    )


@router.get("/batches/{name}")
def get_batch(request: Request, kiln: WithBucket, caller: Known, name: Named, client: Whose = "") -> Response:
    """One batch."""
    theirs = whose(kiln, caller, client or None)
    batch = theirs.open_batch(name)
    status = batch.status()
    wanted = Wanted(batch=name, client=client if caller.admin else "")
    cards, _, _ = pictures_of(request, kiln, caller, wanted).page(None, PICTURES)
    failures = batch.jobs(state="failed", limit=FAILURES) if status.failed > len(status.failures) else []
    specs = {entry.id: entry.spec for entry in batch.entries}
    return show(
        request,
        "batch.html",
        one=status,
        wanted=wanted,
        cards=cards,
        running=[(job, specs.get(job.id)) for job in status.running],
        failures=[(job, specs.get(job.id)) for job in failures or status.failures],
        client=client,
    )


def _clients(kiln: Kiln, caller: Caller) -> list[str]:
    """Those of whom jobs came, for an admin to choose from."""
    if not caller.admin:
        return []
    lanes = (Lane.parse(one.lane) for one in kiln.farm().lanes)
    return sorted({caller.client, *(lane.client for lane in lanes if lane)})
