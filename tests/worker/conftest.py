"""Claims and workers to test with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pixelkiln.jobs import Kiln, RenderSpec, Settings
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.service import Service
from tests.chaos.http_relay import HttpRelay
from tests.worker.working import Work, working


@pytest.fixture
def make_claims(settings: Settings) -> Iterator[Callable[..., Claims]]:
    """Claims on connections of their own, as workers have them."""
    made: list[Claims] = []

    def make(worker: str = "worker-1", where: Settings = settings) -> Claims:
        made.append(Claims(connect(where, timeout=5.0), worker))
        return made[-1]

    yield make
    for claims in made:
        claims.connection.close()


@pytest.fixture
def relayed(settings: Settings) -> Iterator[tuple[Settings, HttpRelay]]:
    """The farm with a relay before its S3, which spoils single answers."""
    port = int(str(settings.s3_endpoint).rpartition(":")[2])
    relay = HttpRelay(lambda: port)
    relay.start()
    yield settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{relay.port}"}), relay
    relay.stop()


@pytest.fixture
def claims(make_claims: Callable[..., Claims]) -> Claims:
    return make_claims()


@pytest.fixture
def submit(kiln: Kiln) -> Callable[..., str]:
    """Submit one small job; its id."""

    def act(id: str | None = None, **fields: Any) -> str:
        wanted = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64, **fields}
        return kiln.submit(RenderSpec.parse(wanted), id=id).id

    return act


@pytest.fixture
def service(settings: Settings) -> Service:
    """A worker that serves the demo's stand-in."""
    return Service(settings, ["demo"])


@pytest.fixture
def work(service: Service) -> Work:
    """Let it work until something is true."""
    return partial(working, service)
