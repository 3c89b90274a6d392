"""The application: what answers, and what every answer says beside."""

from __future__ import annotations

import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import NotReadyError
from pixelkiln.jobs.web import heads, health, openapi, problems
from pixelkiln.jobs.web.api import batches, events, farm, images, jobs, listing, openai, references
from pixelkiln.jobs.web.lately import Lately
from pixelkiln.jobs.web.page import frame, views
from pixelkiln.jobs.web.reading import Readers
from pixelkiln.jobs.web.receiving import fewer
from pixelkiln.jobs.web.streams import Streams
from pixelkiln.jobs.web.tokens import Tokens
from pixelkiln.jobs.web.who import BEARER, EXACT, LOOPBACK, Admission

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
ROUTERS = tuple(one.router for one in (jobs, listing, images, events, references, batches, farm, openai))
_DESCRIBING = threading.Lock()


def build(kiln: Kiln, tokens: Tokens, hosts: frozenset[str] = LOOPBACK) -> FastAPI:
    """The application over a farm; it closes `kiln` when it ends.

    `hosts`: the names by which it may be called where there are no tokens; none: it may not.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.warnings.close()
        app.state.streams.close()
        await run_in_threadpool(app.state.streams.join)
        kiln.close()

    _ = kiln.bucket  # opened here, once for all clients; it connects on first use
    app = FastAPI(
        title=openapi.TITLE,
        version=openapi.VERSION,
        summary=openapi.SUMMARY,
        routes=routes(),
        openapi_url="/v1/openapi.json",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.kiln = kiln
    app.state.few = fewer()
    app.state.readers = Readers()
    app.state.streams, app.state.standing = Streams(kiln), Lately(events.SHARED)
    app.state.health = health.Health(kiln)
    app.state.seal = seal = seal_key(tokens)
    problems.install(app)
    views.install(app)
    app.openapi = description  # type: ignore[method-assign]
    app.add_middleware(Admission, tokens=tokens, client=kiln.settings.client, seal=seal, hosts=hosts)
    app.add_middleware(Headers)
    app.add_middleware(heads.Heads)
    return app


@cache
def routes() -> list[BaseRoute]:
    """What answers where: one table for all applications of this process, since FastAPI reads it slowly."""
    table = APIRouter()
    for router in ROUTERS:
        table.include_router(router, prefix="/v1", dependencies=[BEARER, EXACT], responses=openapi.REFUSALS)
    for router in (*views.ROUTERS, health.router):
        table.include_router(router, include_in_schema=False)
    table.mount("/static", frame.Static(directory=frame.HERE / "static"))
    return table.routes


def description() -> dict[str, Any]:
    """The API as it describes itself; every route asks, and one makes it, which takes most of a second."""
    with _DESCRIBING:
        return _description()


@cache
def _description() -> dict[str, Any]:
    return openapi.describe(routes())


def seal_key(tokens: Tokens) -> bytes:
    """What no client knows: the file's, or this process's alone where there can be none."""
    try:
        return tokens.seal()
    except NotReadyError as error:
        problems.log.warning("links and cursors are good until this server ends: %s", error)
        return secrets.token_bytes(32)


class Headers:
    """ASGI: what every answer says beside, unless its route says otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add them."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)
