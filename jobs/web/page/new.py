"""*New*: a form of what a model takes, which sends jobs; without JavaScript its buttons post it."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi import Path as InPath
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from pixelkiln.jobs.batches.manifest import identities
from pixelkiln.jobs.catalogue import CATALOGUE, DEFAULT_MODEL
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import KilnError, NoSuchJobError, SpecError
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.spec import MAX_SEED, NAME_PATTERN, SHA256_PATTERN
from pixelkiln.jobs.web.api.references import of_form
from pixelkiln.jobs.web.idempotency import keyed
from pixelkiln.jobs.web.page.form import MOST, Form, Picture, sizes
from pixelkiln.jobs.web.page.frame import Posted, after, field_of, show
from pixelkiln.jobs.web.problems import ProblemError, of_error
from pixelkiln.jobs.web.reading import OrBucket
from pixelkiln.jobs.web.receiving import heavily
from pixelkiln.jobs.web.who import Caller, Farm, Known, own

router = APIRouter()

KEPT = "private, max-age=86400, immutable"
_ACTS = re.compile(r"(remove|earlier|later):(\d{1,2})")

Text = Annotated[str, Query(max_length=4000)]


@router.get("/new")
def get_new(
    request: Request,
    kiln: OrBucket,
    caller: Known,
    like: Annotated[str, Query(alias="from", pattern=f"^({JOB_ID.pattern})?$")] = "",
    model: Text = "",
    prompt: Text = "",
    seed: Text = "",
    client: Text = "",
) -> Response:
    """Empty, or with all of a job's settings but its seed; some can be said in the address."""
    served = kiln.queue.served()
    if not like:
        named = model if model in CATALOGUE else _usual(kiln, served)
        return _shown(request, kiln, caller, Form.empty(named, prompt=prompt, seed=seed))
    theirs, status = own(kiln, caller, like, client or None)
    spec = theirs.specs([status]).get(like)
    if spec is None or spec.model not in CATALOGUE:
        raise ProblemError(404, "what it asked for is not known any more")
    form = Form.like(spec)
    form.text["seed"] = seed
    if theirs.settings.client != caller.client:
        form.text["client"] = theirs.settings.client
    return _shown(request, kiln, caller, form, before=spec.seed)


@router.post("/new")
async def post_new(request: Request, kiln: Farm, caller: Known, posted: Posted) -> Response:
    """Send what is asked for; or do what a button of the form says, and show it again."""
    form = Form.of(posted)
    act = field_of(posted, "act")
    client = form.text["client"].strip()
    if client and not re.fullmatch(NAME_PATTERN, client):
        form.refuse("client", "must be 1 to 48 of a-z, 0-9, - and _, beginning with a letter or digit")
    elif client and client != caller.client:
        if not caller.admin:
            raise ProblemError(404, "no such client", "client")
        kiln = kiln.as_client(client)
    await _take_pictures(request, kiln, form, posted)
    await posted.close()
    if act:
        _change(form, act)
    elif where := await heavily(request, lambda: _sent(kiln, caller, form)):
        return after(where)
    status = 200 if act and not form.errors else 422
    return await heavily(request, lambda: _shown(request, kiln, caller, form, status))


@router.get("/references/{name}")
async def get_reference(
    request: Request,
    kiln: Farm,
    caller: Known,
    name: Annotated[str, InPath(pattern=SHA256_PATTERN)],
    client: Annotated[str, Query(max_length=48)] = "",
) -> Response:
    """A reference picture of the caller's, small."""
    if client and client != caller.client:
        if not caller.admin or not re.fullmatch(NAME_PATTERN, client):
            raise ProblemError(404, "there is no such picture")
        kiln = kiln.as_client(client)
    body = await heavily(request, lambda: kiln.reference(name))
    if body is None:
        raise ProblemError(404, "there is no such picture")
    return Response(body, headers={"Cache-Control": KEPT}, media_type="image/webp")


async def _take_pictures(request: Request, kiln: Kiln, form: Form, posted: FormData) -> None:
    """Upload what was chosen or dropped; what is no picture is told, and the others are kept."""
    for one in posted.getlist("pictures"):
        if not isinstance(one, UploadFile) or not one.filename:
            continue
        try:
            name = await heavily(request, partial(of_form, kiln, one, "references"))
            form.pictures.append(Picture(name))
        except SpecError as error:
            form.refuse("references", f"{one.filename[:80]}: {str(error).removeprefix('references: ')}")


def _change(form: Form, act: str) -> None:
    found = _ACTS.fullmatch(act)
    at = int(found[2]) if found else 0
    if found is None or at >= len(form.pictures):
        return
    one = form.pictures.pop(at)
    if found[1] != "remove":
        form.pictures.insert(max(0, at + (1 if found[1] == "later" else -1)), one)


def _sent(kiln: Kiln, caller: Caller, form: Form) -> str:
    """Where to go once the jobs are in the queue; '' where something is refused, which the form tells."""
    fields, many = form.fields(), form.many()
    name = form.text["batch"].strip()
    if name and not JOB_ID.fullmatch(name):
        form.refuse("batch", "must be letters, digits, - and _, beginning with a letter or digit, at most 64")
    if form.errors:
        return ""
    key = form.sealed(fields, kiln.settings.client)
    rows: list[Any] = [fields] * many
    if many > 1 and "seed" in fields:
        rows = [{**fields, "seed": (fields["seed"] + more) % (MAX_SEED + 1)} for more in range(many)]
    try:
        if many == 1 and not name:
            job = kiln.submit_many(rows, ids=[keyed(caller.client, key, 0)])[0]
            return f"/pictures/{job.id}"
        name = name or f"new-{keyed(caller.client, key, 0)[:12]}"
        asked = kiln.completed(rows)
        if _is_another(kiln, name, identities(asked)):
            form.refuse("batch", f"there is a batch {name} already; take another name")
            return ""
        kiln.batch(asked, name)
        whose = "" if kiln.settings.client == caller.client else f"?client={kiln.settings.client}"
        return f"/batches/{name}{whose}"
    except SpecError as error:
        form.refuse(error.field, str(error))
    except KilnError as error:
        form.refuse("", of_error(error, caller.admin)[1])
    return ""


def _is_another(kiln: Kiln, name: str, rows: list[str]) -> bool:
    """Whether a batch of that name is there that is not of these rows."""
    try:
        return [one.identity for one in kiln.open_batch(name).entries] != rows
    except NoSuchJobError:
        return False


def _usual(kiln: Kiln, served: set[str] | frozenset[str]) -> str:
    """The model that a form begins with: the settings' own, or the first that is served."""
    named = (kiln.settings.model or "").partition(":")[0]
    there = {one.partition(":")[0] for one in served}
    if named in CATALOGUE:
        return named
    return next((name for name in CATALOGUE if name in there), DEFAULT_MODEL)


def _shown(
    request: Request,
    kiln: Kiln,
    caller: Caller,
    form: Form,
    status: int = 200,
    before: int | None = None,
) -> Response:
    """The form; `before`: the seed of the job that it is like."""
    try:
        served = {one for one in kiln.queue.served() if one.partition(":")[0] in CATALOGUE}
    except KilnError as error:  # it was typed, and shall not be lost
        served = set()
        status, words, _ = of_error(error, caller.admin)
        form.errors[""] = words
    kinds = {
        name: [one for one in model.quantizations if f"{name}:{one}" in served]
        for name, model in CATALOGUE.items()
    }
    return show(
        request,
        "new.html",
        status,
        form=form,
        text=form.text,
        errors=form.errors,
        takes=form.takes,
        model=form.model,
        kinds=kinds,
        sizes=sizes(form.model),
        before=before,
        most=MOST,
        max_seed=MAX_SEED,
        client=kiln.settings.client,
    )
