"""What goes wrong, as RFC 9457 has it; for OpenAI's clients as they have it. One place for all answers."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Scope

from pixelkiln.jobs.batches.rows import SHOWN, FaultyRowsError
from pixelkiln.jobs.errors import (
    CorruptObjectError,
    JobFailedError,
    KilnError,
    NoSuchJobError,
    NotReadyError,
    SpecError,
    StorageAwayError,
    StorageRefusedError,
    UsageError,
)
from pixelkiln.jobs.plain import plain

log = logging.getLogger("kiln.serve")

MEDIA = "application/problem+json"
AGAIN = 5  # seconds after which it may be tried again where Redis or the bucket is away
METHODS = ("DELETE", "GET", "POST")  # that there are
OPENAI = "/v1/images/"  # where OpenAI's clients call


class Fault(BaseModel):
    """One thing that is wrong in what was sent."""

    field: str
    message: str
    place: int | None = None  # of the job, from 0, or the line of a file, from 1, where several were sent


class Problem(BaseModel):
    """Why a request was not done (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    field: str | None = None  # of what was sent, the part at fault
    errors: list[Fault] = []  # all that is at fault, where more is known


class ProblemError(HTTPException):
    """A refusal of the door's own."""

    def __init__(
        self, status: int, detail: str, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, headers)
        self.field = field


def answer(
    scope: Scope,
    status: int,
    detail: str,
    *,
    field: str | None = None,
    errors: list[Fault] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The answer that tells of a problem; in words that can be sent, whatever is quoted in them."""
    detail, field = plain(detail), plain(field) if field is not None else None
    if scope["path"].startswith(OPENAI):
        return JSONResponse(openai_error(status, detail, field), status, headers)
    from pixelkiln.jobs.web.page import frame  # which knows who asks, which knows what goes wrong

    if "app" in scope and frame.is_page(scope):  # else the app was not even asked
        return frame.problem(scope, status, HTTPStatus(status).phrase, detail, headers)
    problem = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, field=field, errors=errors or []
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers, media_type=MEDIA)


def openai_error(status: int, message: str, field: str | None = None) -> dict[str, Any]:
    """The same as OpenAI's clients read it."""
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status)
    kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
    code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}


def of_error(error: KilnError, admin: bool) -> tuple[int, str, dict[str, str]]:
    """Status, words and headers for one of Kiln's errors; addresses of servers are the admin's to read."""
    if isinstance(error, SpecError | UsageError):
        return 422, str(error), {}
    if isinstance(error, NoSuchJobError):
        return 404, "no such job or batch", {}
    if isinstance(error, JobFailedError):
        return 409, str(error), {}
    if isinstance(error, CorruptObjectError):
        return 502, str(error), {}
    if isinstance(error, NotReadyError):
        words = "the queue cannot be reached"
        if isinstance(error, StorageAwayError | StorageRefusedError):
            words = f"the bucket {'cannot be reached' if isinstance(error, StorageAwayError) else 'refuses'}"
        return 503, str(error) if admin else f"{words}; try again later", {"Retry-After": str(AGAIN)}
    return 500, "something went wrong; the server's log says what", {}


def install(app: FastAPI) -> None:
    """Let `app` answer so; asynchronously, though none waits: no thread may be free to say why."""

    @app.exception_handler(KilnError)
    async def ours(request: Request, error: KilnError) -> Response:
        caller = request.scope.get("caller")
        status, words, headers = of_error(error, bool(caller and caller.admin))
        if status == 500:
            log.error("%s %s: %s", request.method, request.url.path, error)
        field = error.field if isinstance(error, SpecError) else None
        errors = []
        if isinstance(error, SpecError):
            message = words.removeprefix(f"{error.field}: ")
            errors = [Fault(field=error.field, message=message, place=error.place)]
        elif isinstance(error, FaultyRowsError):
            errors = [
                Fault(field=one.place.column or "", message=one.message, place=one.place.line)
                for one in error.faults[:SHOWN]
            ]
            heading, *lines = words.splitlines()
            words = f"{heading} {'; '.join(lines)}".rstrip()
        return answer(request.scope, status, words, field=field, errors=errors, headers=headers)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        field = error.field if isinstance(error, ProblemError) else None
        headers = dict(error.headers) if error.headers else None
        if error.status_code == 405:  # the router's own Allow is of one route: each has a method
            headers = {"Allow": ", ".join(_allowed(request))}
        return answer(request.scope, error.status_code, str(error.detail), field=field, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = [_fault(one, request) for one in error.errors()[:SHOWN]]
        errors = list({(one.field, one.message): one for one in found}.values())  # of a union each part tells
        first = errors[0] if errors else Fault(field="", message="is not what is taken here")
        return answer(request.scope, 422, f"{first.field}: {first.message}", field=first.field, errors=errors)


def _allowed(request: Request) -> list[str]:
    """The methods of a path."""
    asked = [(method, {**request.scope, "method": method}) for method in METHODS]
    routes = request.app.routes
    return [name for name, scope in asked if any(one.matches(scope)[0] == Match.FULL for one in routes)]


def _fault(found: dict[str, Any], request: Request) -> Fault:
    """One of pydantic's findings; what was sent is not said again."""
    loc = [str(part) for part in found["loc"]]
    named = [part for part in loc[1:] if "[" not in part]  # where several things may stand: pydantic's names
    if found["type"] == "json_invalid" or not named:
        named = loc[:1]
    field = plain(".".join(named))[:100]
    told = {
        "extra_forbidden": "no such field",
        "json_invalid": "is not JSON",
        "string_pattern_mismatch": "is no such name or id",
        "string_too_long": "is longer than {max_length} characters",
    }.get(found["type"])
    message = told.format(**found.get("ctx", {})) if told else found["msg"].removeprefix("Value error, ")
    message = message.replace("Input should", "must", 1)
    if field == "body" and "json" not in request.headers.get("content-type", ""):
        message = "is read as JSON with the header Content-Type: application/json alone"
    return Fault(field=field, message=plain(message)[:300])
