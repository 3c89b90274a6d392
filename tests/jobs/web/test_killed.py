"""A server that is killed: what it had accepted is there, and what is sent again is there once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from pixelkiln import Kiln, Settings
from tests.jobs.web.conftest import Start
from tests.jobs.web.page.test_new import blank
from tests.jobs.web.test_farm import FILE, picture
from tests.jobs.web.test_jobs import FOX
from tests.wire import Proxy

SUBMIT, MANIFEST, NOTE = b'"operation": "submit"', b"HSET", b"kiln:asked:"
GENERATION = {"prompt": "a fox", "model": "demo", "size": "64x64", "n": 2}
EDIT = {"prompt": "as a painting", "model": "flux2-klein-4b", "n": "2"}
FORM = {"model": "demo", "prompt": "a fox", "size": "own", "width": "64", "height": "64", "many": "2"}


@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "before it is answered"])
@pytest.mark.parametrize(
    ("path", "body", "needle"),
    [
        ("/v1/jobs", {"json": [FOX] * 150}, SUBMIT),  # more than one round trip
        ("/v1/jobs", {"json": [FOX] * 150}, NOTE),
        ("/v1/batches", {"content": FILE}, NOTE),
        ("/v1/batches", {"content": FILE}, MANIFEST),
        ("/v1/batches", {"content": FILE}, SUBMIT),
        ("/v1/images/generations", {"json": GENERATION}, SUBMIT),
        ("/v1/images/edits", {"data": EDIT, "files": {"image": ("a.png", picture())}}, SUBMIT),
        ("/new", {"data": FORM}, SUBMIT),
    ],
    ids=[
        "jobs",
        "what is asked",
        "what a batch asks",
        "a batch's manifest",
        "a batch",
        "generations",
        "edits",
        "the page's form",
    ],
)
def test_sent_again_it_is_there_once(
    path: str,
    body: dict[str, Any],
    needle: bytes,
    after: bool,
    start: Start,
    kiln: Kiln,
    rewire: Callable[..., tuple[Settings, Proxy]],
) -> None:
    through, proxy = rewire("redis")
    assert through.redis_url is not None
    process, where = start("serve", "--port", "0", KILN_REDIS_URL=through.redis_url.get_secret_value())
    if path == "/new":  # its guard and its key are good with the next server
        with httpx.Client(base_url=where) as browser:
            body = {"data": body["data"] | blank(browser)}
    asked, killed = threading.Event(), threading.Event()

    def kill() -> None:
        process.kill()
        killed.set()

    def answered(request: bytes, reply: bytes) -> bytes:
        if asked.is_set():
            kill()
        return reply

    proxy.alter = answered
    proxy.before = (needle, asked.set if after else kill)
    key = {"Idempotency-Key": "once"}
    with suppress(httpx.HTTPError):
        httpx.post(f"{where}{path}", headers=key, timeout=30, **body)
    assert killed.wait(30)
    process.wait()
    _, where = start("serve", "--port", "0")
    with suppress(httpx.ReadTimeout):  # pictures are waited for, and nobody renders them
        wait = 2 if "images" in path else 30
        answer = httpx.post(f"{where}{path}", headers=key, timeout=wait, **body)
        assert answer.status_code in (200, 201, 303), answer.text
    assert len(kiln.jobs(client=None, limit=1000)) == (150 if path == "/v1/jobs" else 2)
    assert len(kiln.batches()) == (path in ("/v1/batches", "/new"))  # of several pictures the page makes one


def test_what_was_accepted_is_there(start: Start, kiln: Kiln) -> None:
    process, where = start("serve", "--port", "0")
    ids = [httpx.post(f"{where}/v1/jobs", json=FOX).json()["id"] for _ in range(5)]
    process.kill()
    assert {one.id for one in kiln.jobs()} == set(ids)
