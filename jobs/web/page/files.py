"""A file of jobs on the page: what it would send, then a button that sends it.

Between the two the file travels in the page itself, compressed: no server holds it.
"""

from __future__ import annotations

import base64
import re
import zlib
from datetime import datetime

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from pixelkiln.jobs.batches.estimate import Estimate
from pixelkiln.jobs.batches.rows import SHOWN, FaultyRowsError
from pixelkiln.jobs.batches.rows import refused as refused_in_words
from pixelkiln.jobs.batches.windows import zone_of
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.about import deadline
from pixelkiln.jobs.commands.plan import space_of, time_of
from pixelkiln.jobs.errors import KilnError, SpecError, UsageError
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.web.api.batches import Plan, Sending, Taken, submit_file
from pixelkiln.jobs.web.limits import CARRIED, FILE
from pixelkiln.jobs.web.page.frame import Posted, after, field_of, show
from pixelkiln.jobs.web.problems import ProblemError, of_error
from pixelkiln.jobs.web.receiving import heavily
from pixelkiln.jobs.web.who import Caller, Farm, Known

router = APIRouter()

TIMES = ("deadline", "not_before")
TYPED = {"name": 65, "pace": 10, "deadline": 4000, "not_before": 4000, "skip": 1}  # and how long at most


@router.post("/new/file")
async def post_file(request: Request, kiln: Farm, caller: Known, posted: Posted) -> Response:
    """The dry run of a file."""
    file = posted.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        return show(request, "file.html", 422, fault="Choose a file first.", plan=None, source="")
    data, source = await file.read(FILE + 1), file.filename.rpartition("/")[2].rpartition("\\")[2][:200]
    await posted.close()
    carried = await heavily(request, lambda: _carried(data))
    text = {**dict.fromkeys(TYPED, ""), "name": field_of(posted, "name", 64) or _named(source)}
    if len(data) > FILE or len(carried) > CARRIED:
        fault = f"{source} is too large for the page; send it with: kiln batch {source}"
        return show(request, "file.html", 413, fault=fault, plan=None, source=source)
    return await heavily(request, lambda: _planned(request, kiln, caller, data, carried, source, text, {}))


@router.post("/new/batch")
async def post_batch(request: Request, kiln: Farm, caller: Known, posted: Posted) -> Response:
    """Send a file that was looked at, or look again. The same file under the same name is the same jobs."""
    carried, source = field_of(posted, "file", CARRIED), field_of(posted, "source", 200)
    text = {name: field_of(posted, name, most).strip() for name, most in TYPED.items()}
    look = field_of(posted, "act") == "look"
    data = await heavily(request, lambda: _opened(carried))
    errors: dict[str, str] = {}
    if not JOB_ID.fullmatch(text["name"]):
        errors["name"] = "must be letters, digits, - and _, beginning with a letter or digit, at most 64"

    def send() -> Response:
        if not errors and not look:
            try:
                sent = submit_file(kiln, data, _how(source, text, name=text["name"]), None)
                assert isinstance(sent, Taken)
                return after(f"/batches/{sent.name}")
            except FaultyRowsError:
                errors["skip"] = "some rows are refused; mend the file, or send the others"
            except SpecError as error:
                named = error.field in TIMES
                errors[error.field if named else ""] = str(error).removeprefix(f"{error.field}: " * named)
            except UsageError as error:
                errors["name"] = str(error)
            except KilnError as error:
                errors[""] = of_error(error, caller.admin)[1]
        return _planned(request, kiln, caller, data, carried, source, text, errors)

    return await heavily(request, send)


def _planned(
    request: Request,
    kiln: Kiln,
    caller: Caller,
    data: bytes,
    carried: str,
    source: str,
    text: dict[str, str],
    errors: dict[str, str],
) -> Response:
    try:
        plan = _plan(kiln, data, source, text, errors)
    except KilnError as error:
        status, words, _ = of_error(error, caller.admin)
        return show(request, "file.html", status, fault=words, plan=None, source=source)
    there = _there(kiln, text["name"]) if JOB_ID.fullmatch(text["name"]) else 0
    found = Estimate(**plan.estimate.model_dump()) if plan.estimate else None
    return show(
        request,
        "file.html",
        422 if errors or (plan.refused and not plan.jobs) else 200,
        plan=plan,
        first=[RenderSpec.parse(one) for one in plan.first],
        refused=plan.refused[:SHOWN],
        more=len(plan.refused) - SHOWN,
        rows=refused_in_words(len({one.line for one in plan.refused})),
        time=time_of(found) if found and plan.jobs else "",
        space=space_of(found, None) if found and plan.jobs else "",
        carried=carried,
        source=source,
        text=text,
        outlook=deadline(plan.deadline) if plan.deadline else "",
        clock=datetime.now(zone_of(kiln.settings.zone)),
        there=there,
        errors=errors,
        fault="",
    )


def _plan(kiln: Kiln, data: bytes, source: str, text: dict[str, str], errors: dict[str, str]) -> Plan:
    """What would be sent; a time that is none is told in `errors` and left out."""
    while True:
        told = {name: "" if name in errors else typed for name, typed in text.items()}
        try:
            plan = submit_file(kiln, data, _how(source, told, dry_run=True), None)
        except SpecError as error:
            if error.field not in TIMES:
                raise
            errors[error.field] = str(error).removeprefix(f"{error.field}: ")
        else:
            assert isinstance(plan, Plan)
            return plan


def _how(source: str, text: dict[str, str], **more: str | bool) -> Sending:
    told = {name: text[name][:40] for name in TIMES if text[name]}  # whatever is longer is no time
    paces = {name: text["pace"] == name for name in ("fast", "draft")}
    return Sending.model_validate({"source": source, "skip_bad": bool(text["skip"]), **told, **paces, **more})


def _there(kiln: Kiln, name: str) -> int:
    """How many pictures a batch of that name has already."""
    try:
        return len(kiln.open_batch(name).entries)
    except KilnError:
        return 0


def _named(source: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", source.rpartition(".")[0] or source).strip("-")[:60]
    return stem or "batch"


def _carried(data: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(data, 6)).decode()


def _opened(text: str) -> bytes:
    """The file again, of no more than a file may have. Raises ProblemError."""
    try:
        packed = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
        opening = zlib.decompressobj()
        data = opening.decompress(packed, FILE)
    except (ValueError, zlib.error):
        raise ProblemError(422, "file: is not as this page made it; choose it again", "file") from None
    if not opening.eof or not data:
        raise ProblemError(422, "file: is not as this page made it; choose it again", "file")
    return data
