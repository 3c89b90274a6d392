"""Signing in: a token for one cookie, which stands in its place."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from pixelkiln.jobs.web.page.frame import Posted, after, inside, show
from pixelkiln.jobs.web.receiving import read_form
from pixelkiln.jobs.web.who import COOKIE, address_of

router = APIRouter()

KEPT = 30 * 86_400  # seconds; a token that is revoked ends it at once


@router.get("/sign-in")
def get_sign_in(request: Request, next: str = "/") -> Response:
    """The form."""
    return show(request, "sign-in.html", next=inside(next), fault="")


@router.post("/sign-in")
async def post_sign_in(request: Request) -> Response:
    """Take a token; anybody may ask, and who guesses is held up as elsewhere."""
    form = await read_form(request, max_files=0, max_fields=10)
    token, where = str(form.get("token", "")).strip(), inside(str(form.get("next", "/")))
    try:
        await request.scope["known"](address_of(request.scope), token)
    except HTTPException as error:
        fault = (
            str(error.detail) if token and error.status_code != 401 else "This is no token, or a revoked one."
        )
        return show(request, "sign-in.html", error.status_code, next=where, fault=fault)
    answer = after(where)
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    answer.set_cookie(COOKIE, token, KEPT, httponly=True, samesite="strict", path="/", secure=secure)
    return answer


@router.post("/sign-out")
def sign_out(request: Request, form: Posted) -> Response:
    """Forget the token."""
    answer = after("/sign-in")
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


@router.get("/favicon.ico")
def favicon() -> Response:
    """For browsers that ask without being told."""
    return RedirectResponse("/static/icon.svg", 301)
