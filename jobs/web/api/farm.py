"""The farm: its workers, its lanes, what it serves; and orders to it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.control.orders import Order, Target, Verb
from pixelkiln.jobs.control.reach import reached
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.farm import LaneStatus, WorkerStatus
from pixelkiln.jobs.schema import schema_of
from pixelkiln.jobs.web.problems import Problem
from pixelkiln.jobs.web.who import Admin, Caller, Farm, Known

router = APIRouter(tags=["farm"])


class Asked(BaseModel):
    """An order to workers."""

    model_config = ConfigDict(extra="forbid")

    verb: Verb
    target: Annotated[str, Field(max_length=100, description="farm, client:NAME, model:NAME or worker:NAME")]
    now: bool = Field(False, description="of a drain: give the running job back, do not finish it")


class Given(BaseModel):
    """An order that was given."""

    order: Order
    reached: int | None  # workers at work that it is for; null where that is not known
    ignoring: list[str]  # workers that will not obey: they have another key, or none


class Model(BaseModel):
    """A model that a worker serves, as OpenAI's clients list them, and what it takes."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "pixelkiln"
    quantizations: list[str]
    fields: dict[str, Any]  # the JSON Schema of a job of it


class Models(BaseModel):
    """What the farm serves."""

    object: str = "list"
    data: list[Model]


@router.get("/workers", summary="The workers")
def get_workers(kiln: Farm, caller: Known) -> list[WorkerStatus]:
    """What each does; what it renders of others' an admin alone is told."""
    return [one if caller.admin else _discreet(one, caller) for one in kiln.farm().workers]


@router.get("/lanes", summary="What waits where")
def get_lanes(kiln: Farm, caller: Known) -> list[LaneStatus]:
    """The caller's lanes; an admin's are all."""
    return [
        one
        for one in kiln.farm().lanes
        if caller.admin or ((lane := Lane.parse(one.lane)) and lane.client == caller.client)
    ]


@router.get("/models", summary="What the farm serves")
def get_models(kiln: Farm, caller: Known) -> Models:
    """The models that living workers serve, in the order in which a job that names none gets one."""
    served = kiln.queue.served()
    kinds = {
        name: [one for one in model.quantizations if f"{name}:{one}" in served]
        for name, model in CATALOGUE.items()
    }
    return Models(
        data=[
            Model(id=name, quantizations=have, fields=schema_of(name)) for name, have in kinds.items() if have
        ]
    )


@router.post(
    "/orders",
    status_code=201,
    summary="Pause, resume or drain",
    responses={403: {"model": Problem, "description": "This is for admins."}},
)
def post_order(kiln: Farm, caller: Admin, asked: Asked) -> Given:
    """For admins; signed with KILN_ADMIN_KEY, or the key of the `kiln up` that runs here."""
    target = Target.parse(asked.target)
    if asked.verb == "drain":
        order = kiln.drain(target, now=asked.now)
    else:
        order = kiln.pause(target) if asked.verb == "pause" else kiln.resume(target)
    try:
        ignoring = kiln.workers_ignoring_orders()
    except NotReadyError:  # the order is given
        ignoring = []
    return Given(order=order, reached=reached(kiln, [order]).get(order.target), ignoring=ignoring)


def _discreet(worker: WorkerStatus, caller: Caller) -> WorkerStatus:
    """Without what is others'."""
    state = re.sub(r"^rendering .*", "rendering", re.split("[;:]", worker.state)[0])
    paused = tuple(
        one for one in worker.paused if not one.startswith("client:") or one == f"client:{caller.client}"
    )
    return replace(worker, state=state, paused=paused, orders="")
