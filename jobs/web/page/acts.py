"""What buttons of pages do to jobs and batches; what cannot be taken back is asked first."""

from __future__ import annotations

import re
from typing import Literal

from fastapi import APIRouter, Request
from starlette.datastructures import FormData
from starlette.responses import Response

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.spec import Priority
from pixelkiln.jobs.web.api.batches import Named, Verb, post_verb
from pixelkiln.jobs.web.api.jobs import Id, delete_job, retry_job
from pixelkiln.jobs.web.idempotency import keyed
from pixelkiln.jobs.web.page.frame import Posted, address, after, field_of, inside, show
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.reading import OrBucket, WithBucket
from pixelkiln.jobs.web.who import Known, own, whose

router = APIRouter()

_PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")


@router.post("/pictures/{id}/{act}")
def post_picture(
    request: Request,
    kiln: OrBucket,
    caller: Known,
    id: Id,
    act: Literal["cancel", "retry", "again", "another"],
    form: Posted,
) -> Response:
    """Cancel a job, try it again, render it anew in its place, or as another with another seed."""
    client = field_of(form, "client", 48) or None
    back = address(f"/pictures/{id}", client=client)
    if act == "another":
        return after(f"/pictures/{_another(kiln, caller, id, client, form)}")
    if act == "cancel":
        delete_job(kiln, caller, id, client)
    elif act == "retry":
        retry_job(kiln, caller, id, client=client)
    else:
        own(kiln, caller, id, client)
        if not field_of(form, "sure"):
            return asked(
                request,
                form,
                title="Render it anew in its place?",
                what="It keeps its name and its seed. This picture is replaced once the new one is there.",
                button="Render it anew",
                back=back,
            )
        retry_job(kiln, caller, id, True, client)
    return after(_next(form, back))


@router.post("/batches/{name}/{verb}")
def post_batch(
    request: Request, kiln: WithBucket, caller: Known, name: Named, verb: Verb, form: Posted, client: str = ""
) -> Response:
    """As the API does it."""
    client = field_of(form, "client", 48) or client
    theirs = client or None
    whose(kiln, caller, theirs).open_batch(name)
    back = f"/batches/{name}" + (f"?client={client}" if client else "")
    if verb == "cancel" and not field_of(form, "sure"):
        return asked(
            request,
            form,
            title=f"Cancel what is left of {name}?",
            what="What waits is gone, and what is being rendered stops. Finished pictures stay.",
            button="Cancel what is left",
            back=back,
        )
    priority = next((one for one in _PRIORITIES if one == field_of(form, "priority")), None)
    if verb == "prioritize" and priority is None:
        raise ProblemError(422, "priority: must be high, normal or low", "priority")
    post_verb(kiln, caller, name, verb, priority if verb == "prioritize" else None, theirs)
    return after(_next(form, back))


def _another(kiln: Kiln, caller: Known, id: str, client: str | None, form: FormData) -> str:
    """The id of the same with another seed; the same button pressed twice is the same job."""
    theirs, status = own(kiln, caller, id, client)
    spec = theirs.specs([status]).get(id)
    if spec is None:
        raise ProblemError(409, "what it asked for is not known any more")
    key = field_of(form, "key")
    if not re.fullmatch(r"[0-9a-f]{32}", key):
        raise ProblemError(422, "key: is missing; load the page again", "key")
    made = keyed(theirs.settings.client, f"{key} {id}", 0)
    fields = spec.model_dump(mode="json", exclude={"seed"}, exclude_none=True)
    return theirs.submit_many([fields], ids=[made])[0].id  # type: ignore[list-item]


def asked(request: Request, form: FormData, *, title: str, what: str, button: str, back: str) -> Response:
    """A page that asks whether it is meant, whose button sends the same again."""
    kept = {name: field_of(form, name) for name in ("next", "client", "verb", "target", "now")}
    kept = {name: text for name, text in kept.items() if text}
    return show(request, "sure.html", title=title, what=what, button=button, back=back, kept=kept)


def _next(form: FormData, otherwise: str) -> str:
    """The page on which the button was."""
    given = field_of(form, "next", 2000)
    return inside(given) if given else otherwise
