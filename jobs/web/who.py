"""Who asks, and whether they may: looked at before a body is read, for every path that is not public."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import KilnError, NoSuchJobError
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.spec import Name
from pixelkiln.jobs.web import limits, problems
from pixelkiln.jobs.web.links import linked
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.tokens import Token, Tokens

COOKIE = "kiln"  # of the page: the token, in place of the header
PUBLIC = frozenset(
    {"/v1/openapi.json", "/healthz", "/readyz", "/sign-in", "/favicon.ico"}
)  # beside all below /static/
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")  # of the page: no JSON in them
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    id: str  # of the token; '' without
    client: str  # as whom
    admin: bool = False

    def may_see(self, status: JobStatus) -> bool:
        """Whether a job is this caller's to see, cancel and try again."""
        return self.admin or status.client == self.client


class Admission:
    """ASGI: tells the application who asks (`scope["caller"]`), and answers who may not itself."""

    def __init__(
        self, app: ASGIApp, tokens: Tokens, client: str, seal: bytes, hosts: frozenset[str] = LOOPBACK
    ) -> None:
        """Without tokens everybody is the admin, as `client`, who calls the server by one of `hosts`.

        Where there are no hosts, or once there were tokens, nobody is.
        """
        self._app, self._tokens, self._client, self._hosts = app, tokens, client, hosts
        self._seal = seal  # that addresses which need no token bear
        self._closed = not hosts or _any(tokens)  # to who has no token, even where there are none
        self._uploads = limits.Places()  # which lie on the disk, and are given back once they do
        self._bodies = limits.Places()  # of JSON, in memory until it is answered
        self._rates, self._guesses = limits.Rates(), limits.Rates(*limits.GUESSES)
        self._finding = asyncio.Lock()  # one scrypt at a time: who guesses takes neither cores nor threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, or answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            _check_origin(scope["method"], Headers(scope=scope))
            scope["known"], scope["holds"] = self._known, self._holds
            if not is_public(scope["path"]):
                scope["caller"] = await self._caller(scope)
            with ExitStack() as held:
                await self._app(scope, await self._body(scope, receive, held), sending)
        except HTTPException as error:
            if begun:
                raise
            headers = dict(error.headers) if error.headers else None
            field = getattr(error, "field", None)
            told = problems.answer(scope, error.status_code, error.detail, field=field, headers=headers)
            await told(scope, receive, send)
        except KilnError as error:  # the file of tokens cannot be read
            problems.log.error("%s", error)
            told = problems.answer(scope, 503, "tokens cannot be read; the server's log says why")
            await told(scope, receive, send)
        except ClientDisconnect:
            problems.log.debug("%s %s: the other side left", scope["method"], scope["path"])
        except Exception:
            if begun:
                raise
            problems.log.exception("%s %s", scope["method"], scope["path"])
            told = problems.answer(scope, 500, "something went wrong; the server's log says what")
            await told(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        headers = Headers(scope=scope)
        if self._tokens.all():
            self._closed = True  # they may go, and nobody wants to be open by that
        if not self._closed:
            passed_on = "x-forwarded-for" in headers or "forwarded" in headers
            if passed_on or _host(headers.get("host", "")) not in self._hosts:
                raise ProblemError(421, "without tokens this server answers on its own machine alone")
            caller = Caller("", self._client, admin=True)
        elif (client := linked(self._seal, scope)) is not None:
            caller = Caller(f"link {client}", client)
        else:
            caller = await self._known(address_of(scope), bearer(headers) or cookie(headers))
        price = limits.THUMBNAIL if scope["path"].startswith("/thumbnails/") else 1
        if wait := self._rates.take(caller.id, price):
            raise ProblemError(429, "too many requests", headers={"Retry-After": f"{max(1, round(wait))}"})
        return caller

    def _holds(self, caller: Caller) -> bool:
        """Whether it would be let in again: a token may be revoked while who has it listens."""
        try:
            if caller.id:
                return self._tokens.has(caller.id)
            return not (self._closed or self._tokens.all())
        except KilnError:
            return False

    async def _known(self, address: str, text: str) -> Caller:
        found = self._tokens.known(text)
        if found is None and (name := self._tokens.named(text)):  # only then it costs scrypt's time
            async with self._finding:
                found = self._tokens.known(text) or await self._found(text, f"{name} {address}")
        if found is None:
            told = "this token is none" if text else "a token is needed: Authorization: Bearer TOKEN"
            raise ProblemError(401, told, headers={"WWW-Authenticate": "Bearer"})
        return Caller(found.id, found.client, found.admin)

    async def _found(self, text: str, guess: str) -> Token | None:
        if self._guesses.left(guess) < 1:
            raise ProblemError(429, "too many tries at a token", headers={"Retry-After": "60"})
        found = await anyio.to_thread.run_sync(self._tokens.find, text)
        if found is None:
            self._guesses.take(guess)
        return found

    async def _body(self, scope: Scope, receive: Receive, held: ExitStack) -> Receive:
        """JSON is read and looked at here, whole; what may be larger by who takes it. Both need places."""
        large = limits.BODIES.get(scope["path"]) if scope["method"] == "POST" else None
        most = large or (limits.UNKNOWN if is_public(scope["path"]) else limits.JSON)
        told = Headers(scope=scope).get("content-length", "")
        if told.isdecimal() and int(told[:20]) > most:
            raise limits.too_large(most)
        if scope["method"] in SAFE:
            return receive
        if large:
            return limits.bounded(receive, most, _place(self._uploads, scope, held))
        receive_some = limits.bounded(receive, most)
        body = await limits.whole(receive_some, lambda: _place(self._bodies, scope, held))
        if Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() not in FORMS:
            if len(body) > limits.SMALL:
                await anyio.to_thread.run_sync(limits.check_json, body)
            else:
                limits.check_json(body)
        given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        return again


def _any(tokens: Tokens) -> bool:
    """Whether there are tokens, or may be."""
    try:
        return bool(tokens.all())
    except KilnError:
        return True


def _place(places: limits.Places, scope: Scope, held: ExitStack) -> Callable[[], None]:
    """Take one for as long as it is held; what gives it back before. Raises ProblemError."""
    if (leave := places.take(scope["caller"].id)) is None:
        raise ProblemError(503, "too many uploads now", headers={"Retry-After": "10"})
    held.callback(leave)
    return leave


def is_public(path: str) -> bool:
    """Whether anybody may have it."""
    return path in PUBLIC or path.startswith("/static/")


def bearer(headers: Headers) -> str:
    """The token that a request bears; '' for none."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


def cookie(headers: Headers) -> str:
    """The token that a browser bears since its user signed in; '' for none."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def _check_origin(method: str, headers: Headers) -> None:
    """A page of somebody else's, open in a browser here, may not act in its user's name."""
    if method in SAFE:
        return
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    other = origin is not None and origin.partition("://")[2] != headers.get("host")
    silent = origin is None and site != "same-origin" and cookie(headers) and not bearer(headers)
    if other or silent or site == "cross-site":
        raise ProblemError(403, "this comes from another site's page")


def _host(text: str) -> str:
    """The name or number of a Host header, without its port; '' for what is none."""
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""


def address_of(scope: Scope) -> str:
    """Whence a request comes."""
    return scope["client"][0] if scope.get("client") else ""


# Asynchronous, though none waits: FastAPI would send each of them, of every request, through a thread.


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["caller"]
    return caller


async def _admin(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    if not caller.admin:
        raise ProblemError(403, "this is for admins; their tokens are made with: kiln token new --admin")
    return caller


async def _kiln(request: Request, caller: Annotated[Caller, Depends(_caller)]) -> Kiln:
    kiln: Kiln = request.app.state.kiln
    return kiln.as_client(caller.client)


async def _exact(request: Request) -> None:
    """Raise ProblemError for a name behind the ? that the API's own description does not have."""
    path = request.scope["route"].path
    described = request.app.openapi()["paths"]
    found = described.get(path) or described[f"/v1{path}"]
    known = {
        one["name"] for one in found[request.method.lower()].get("parameters", []) if one["in"] == "query"
    }
    for name in request.query_params:
        if name not in known:
            told = f"there are {', '.join(sorted(known))}" if known else "there are none"
            raise ProblemError(422, f"{plain(name)[:60]}: no such field; {told}", plain(name)[:60])


EXACT = Depends(_exact)
BEARER = Security(HTTPBearer(auto_error=False, description="made with `kiln token new`"))
Known = Annotated[Caller, Depends(_caller)]
Admin = Annotated[Caller, Depends(_admin)]
Farm = Annotated[Kiln, Depends(_kiln)]  # as the caller's client sees it
Whose = Annotated[Name | None, Query(description="an admin's to name")]


def own(kiln: Kiln, caller: Caller, job_id: str, client: str | None = None) -> tuple[Kiln, JobStatus]:
    """A job that is the caller's to see, and the farm as its client sees it.

    One that the queue has forgotten is looked for among the pictures of `client`, as of `whose`.
    Raises NoSuchJobError, for another's too.
    """
    status = whose(kiln, caller, client).status(job_id)
    if not caller.may_see(status) or client not in (None, status.client):
        raise NoSuchJobError(f"no job {job_id}")
    return (kiln.as_client(status.client) if status.client else kiln), status


def whose(kiln: Kiln, caller: Caller, client: str | None) -> Kiln:
    """The farm as a client that was named sees it: the caller's own, or, for an admin, any."""
    if client is None or client == caller.client:
        return kiln
    if not caller.admin:
        raise ProblemError(404, "no such client", "client")
    return kiln.as_client(client)
