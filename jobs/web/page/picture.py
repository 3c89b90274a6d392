"""One picture with all that is known of it, and two beside each other."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pixelkiln.jobs.batches.names import DEFAULT, ENDING, Template
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import CorruptObjectError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.web.api.jobs import Id
from pixelkiln.jobs.web.page.command import command
from pixelkiln.jobs.web.page.frame import address, after, show, size
from pixelkiln.jobs.web.page.gallery import Filter, pictures_of
from pixelkiln.jobs.web.page.wrong import waits_for
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.reading import WithBucket
from pixelkiln.jobs.web.who import Caller, Known, own

router = APIRouter()

One = Annotated[str, Query(pattern=f"^({JOB_ID.pattern})?$")]


@router.get("/pictures/{id}")
def get_picture(request: Request, kiln: WithBucket, caller: Known, id: Id, wanted: Filter) -> Response:
    """A job's picture; of one that has none what became of it. The filter says what stands beside it."""
    theirs, status = own(kiln, caller, id, wanted.client or None)
    spec, sidecar, fault = _known(theirs, status)
    newer, older = "", ""
    if status.state == "finished":
        newer, older = pictures_of(request, kiln, caller, wanted).beside(status)
    return show(
        request,
        "picture.html",
        wanted=wanted,
        job=status,
        spec=spec,
        sidecar=sidecar,
        fault=fault,
        newer=newer,
        older=older,
        file=Template.parse(DEFAULT).stem(1, id, spec).removeprefix("0001-") + ENDING
        if spec
        else f"{id}.png",
        settings=settings(spec, sidecar) if spec else {},
        command=command(spec) if spec else "",
        waits=_waits(kiln, status),
    )


@router.get("/compare")
def get_compare(
    request: Request,
    kiln: WithBucket,
    caller: Known,
    a: One = "",
    b: One = "",
    client: Annotated[str, Query(max_length=48)] = "",
    pick: Annotated[list[One], Query(max_length=200)] = [],  # noqa: B006 # FastAPI's way; nobody writes to it
) -> Response:
    """Two pictures; `pick` is what the gallery's boxes send."""
    if pick:
        if len(pick) != 2:
            return show(request, "compare.html", 422, two=None, chosen=len(pick))
        return after(address("/compare", a=pick[0], b=pick[1], client=client))
    if not a or not b:
        return show(request, "compare.html", two=None, chosen=0)
    two = [_side(kiln, caller, one, client or None) for one in (a, b)]
    told = [one["settings"] for one in two]
    names = list(dict.fromkeys(name for one in told for name in one))
    rows = [(name, *(one.get(name, "") for one in told)) for name in names]
    return show(
        request,
        "compare.html",
        two=two,
        chosen=2,
        client=client,
        differ=[row for row in rows if row[1] != row[2]],
        same=[row for row in rows if row[1] == row[2]],
    )


def _side(kiln: Kiln, caller: Caller, job_id: str, client: str | None) -> dict[str, Any]:
    theirs, status = own(kiln, caller, job_id, client)
    spec, sidecar, fault = _known(theirs, status)
    if spec is None or sidecar is None:
        raise ProblemError(409, f"there is no picture of {job_id}: {fault or f'it is {status.state}'}")
    return {"job": status, "spec": spec, "sidecar": sidecar, "settings": settings(spec, sidecar)}


def _waits(kiln: Kiln, status: JobStatus) -> str:
    """Why nobody takes it now, where that is known."""
    lane = Lane.parse(status.lane)
    told = status.state != "queued" or status.held or status.not_before or status.waits
    return "" if told or lane is None else waits_for(kiln.farm(), lane)


def _known(kiln: Kiln, status: JobStatus) -> tuple[RenderSpec | None, Sidecar | None, str]:
    """What was asked for, the record beside the picture, and why there is none though it has finished."""
    sidecar, fault = None, ""
    if status.state == "finished" and status.result is not None:
        try:
            sidecar = kiln.sidecar_of(status)
        except CorruptObjectError as error:
            fault = str(error)
    elif status.state == "finished":
        fault = "its result cannot be read"
    return sidecar.spec if sidecar else kiln.specs([status]).get(status.id), sidecar, fault


def settings(spec: RenderSpec, sidecar: Sidecar | None) -> dict[str, str]:
    """What a picture was made with, by name; what was not asked for, as it ran."""
    ran = sidecar.model if sidecar else {}
    told: dict[str, Any] = {
        "prompt": spec.prompt,
        "negative prompt": spec.negative_prompt,
        "model": f"{spec.model}:{spec.quantization}",
        "size": f"{spec.width} × {spec.height}",
        "seed": spec.seed,
        "steps": ran.get("steps", spec.steps),
        "coarse steps": spec.coarse_steps or None,
        "guidance": ran.get("guidance", spec.guidance),
        "scheduler": ran.get("scheduler"),
        "strength": spec.strength,
        "seams blended": f"{spec.blend_seams} px" if spec.blend_seams else None,
        "off its recipe": ran.get("off_recipe"),
        "priority": spec.priority if spec.priority != "normal" else None,
    }
    if spec.references:
        told["references"] = "\n".join(spec.references)
    told |= {f"label {name}": text for name, text in spec.labels.items()}
    if sidecar:
        if (sidecar.png.width, sidecar.png.height) != (spec.width, spec.height):
            told["size"] = f"{sidecar.png.width} × {sidecar.png.height}"
        times = sidecar.timings
        told["rendered in"] = f"{times.total:.1f} s" + (
            f", {times.load:.1f} of it loading" if times.load else ""
        )
        told["worker"] = sidecar.host.get("worker")
        told["memory at most"] = size(sidecar.memory.peak_mlx)
    return {name: str(value) for name, value in told.items() if value not in (None, "")}
