"""What all views share: templates, what every page says beside, the guard of its forms."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit

from fastapi import Depends, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.commands.about import counts, deadline, remaining, span
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.web.limits import BODIES
from pixelkiln.jobs.web.receiving import read_form
from pixelkiln.jobs.web.who import COOKIE, Caller

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:{};"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Of a form, in memory: fields, and files, of which Starlette lays those beyond 1 MiB on the disk.
FIELDS, FIELD, FILES = 256, 64 * 1024, 16
FOREVER = "public, max-age=31536000, immutable"
API = ("/v1/", "/metrics", "/healthz", "/readyz", "/static/")


class Static(StaticFiles):
    """Files that browsers keep: their addresses change with what they hold."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One of them."""
        found = await super().get_response(path, scope)
        if scope["query_string"].startswith(b"v=") and found.status_code == 200:
            found.headers["Cache-Control"] = FOREVER
        return found


def show(request: Request, name: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A page, from the template of that name."""
    scope = request.scope
    caller: Caller | None = scope.get("caller")
    body = (
        templates()
        .get_template(name)
        .render(
            caller=caller,
            signed_in=COOKIE in request.cookies,
            csrf=seal(request) if caller else "",
            path=scope["path"],
            here=_here(request),
            **context,
        )
    )
    kiln: Kiln = request.app.state.kiln
    elsewhere = ""
    if kiln.settings.image_links:  # browsers are sent to the bucket for pictures
        with suppress(NotReadyError):  # that of an instance that does not run
            parts = urlsplit(kiln.bucket.link("any", 1))
            elsewhere = f" {parts.scheme}://{parts.netloc}"
    # With no-referrer a browser's forms come from the origin "null", which nobody's page is let do.
    told = {"Content-Security-Policy": POLICY.format(elsewhere), "Referrer-Policy": "same-origin"}
    return HTMLResponse(body, status, told)


def _here(request: Request) -> str:
    """The address at which a page is had again; of what answers a form, that of the page on which it was."""
    path: str = request.scope["path"]
    query: str = request.scope["query_string"].decode("latin-1")
    if request.method != "POST":
        return path + (f"?{query}" if query else "")
    told: str = request.scope.get("next", "")
    if told:
        return inside(told)
    host, slash, where = request.headers.get("referer", "").partition("://")[2].partition("/")
    theirs = host != request.headers.get("host") or f"/{where.partition('?')[0]}" == path  # of another form
    return "/" if theirs else inside(slash + where)


def problem(scope: Scope, status: int, title: str, detail: str, headers: dict[str, str] | None) -> Response:
    """The page that tells of a problem; who is not known is sent to sign in."""
    request = Request(scope)
    if status == 401:
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        back = f"?{urlencode({'next': here})}" if scope["method"] == "GET" and here != "/" else ""
        if "hx-request" in request.headers:
            return Response(status_code=204, headers={"HX-Redirect": f"/sign-in{back}"})
        return RedirectResponse(f"/sign-in{back}", 303)
    answer = show(request, "problem.html", status, title=title, detail=detail, code=status)
    answer.headers.update(headers or {})
    return answer


def is_page(scope: Scope) -> bool:
    """Whether a browser asks for a page, not a program for an answer."""
    headers = dict(scope["headers"])
    wants = b"text/html" in headers.get(b"accept", b"") or b"hx-request" in headers
    return wants and not scope["path"].startswith(API)


def seal(request: Request) -> str:
    """What the forms of a caller's pages hold, and no other site's page knows."""
    caller: Caller = request.scope["caller"]
    key: bytes = request.app.state.seal
    return hmac.new(key, b"form " + caller.id.encode(), hashlib.sha256).hexdigest()[:32]


async def _posted(request: Request) -> FormData:
    from pixelkiln.jobs.web.problems import ProblemError

    carries = request.scope["path"] == "/new/batch"  # a file, in one of its fields
    most = BODIES["/new/batch"] if carries else FIELD
    form = await read_form(request, max_files=FILES, max_fields=FIELDS, max_part_size=most)
    given = form.get("csrf")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), seal(request).encode()):
        raise ProblemError(403, "this form is not from a page of here, or an old one; load the page again")
    request.scope["next"] = field_of(form, "next", 2000)  # for what tells of a problem, which has no form
    return form


Posted = Annotated[FormData, Depends(_posted)]  # the fields of a form that one of our pages sent


def after(where: str) -> Response:
    """What answers a form that was done: the page that shows what became of it."""
    return RedirectResponse(where, 303)


def inside(where: str) -> str:
    """An address of this site; no other."""
    fine = where.startswith("/") and not where.startswith(("//", "/\\")) and where.isprintable()
    return where if fine else "/"


def field_of(form: FormData, name: str, most: int = 300) -> str:
    """A text that a form sent; '' for none, or one too long."""
    given = form.get(name, "")
    return given if isinstance(given, str) and len(given) <= most else ""


@cache
def templates() -> Environment:
    """The templates, and what they may call."""
    made = Environment(
        loader=PackageLoader("pixelkiln.jobs.web.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_fit,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(static=_static, about=address, key=_key)
    made.globals.update(counts_of=counts, remaining=remaining, deadline=deadline)
    made.filters.update(
        span=span,
        ago=_ago,
        size=size,
        when=_when,
        moment=_moment,
        part=lambda text: quote(text, safe=""),
        lane=Lane.parse,
        typed=escape,  # what goes back into a field, as it was
    )
    return made


def _fit(value: Any) -> Any:
    """What is put into a page, without what turns lines round or is not seen; lines stay lines."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(plain(line) for line in value.replace("\r\n", "\n").expandtabs(4).split("\n"))
    return value


@cache
def _static(name: str) -> str:
    """Where a file of ours is had, under an address that changes with it."""
    return f"/static/{name}?v={hashlib.sha256((HERE / 'static' / name).read_bytes()).hexdigest()[:12]}"


def address(path: str, **fields: Any) -> str:
    """An address with a query; fields that are empty are left out."""
    told = urlencode({name: value for name, value in fields.items() if value not in (None, "", False)})
    return f"{path}?{told}" if told else path


def _key() -> str:
    """For a form whose button may be pressed twice, and shall be meant once."""
    return secrets.token_hex(16)


def _ago(seconds: float) -> str:
    return f"{span(seconds)} ago" if seconds >= 1 else "now"


def _when(text: str) -> Markup | str:
    """A moment as people read it, in UTC; page.js shows it in the reader's zone."""
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return text
    return Markup('<time datetime="{}">{}</time>').format(
        f"{moment:%Y-%m-%dT%H:%M:%SZ}", f"{moment:%d %b %Y, %H:%M} UTC"
    )


def _moment(seconds: float) -> Markup | str:
    """The same of seconds since 1970."""
    return _when(datetime.fromtimestamp(seconds, UTC).isoformat())


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("bytes", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
