"""HEAD: the headers of GET, and no body."""

from __future__ import annotations

import httpx
import pytest

from pixelkiln import Kiln
from pixelkiln.jobs.web import streams
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.page.reading import HTML
from tests.jobs.web.page.rendering import render
from tests.jobs.web.test_jobs import sent
from tests.jobs.web.test_openai import at_work
from tests.waiting import until


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/v1/jobs",
            "/v1/jobs/{}",
            "/v1/jobs/{}/image",
            "/v1/jobs/{}/sidecar",
            "/v1/jobs/none",
            "/v1/jobs?x=1",
        ),
        *("/v1/events", "/v1/jobs/{}/events", "/v1/openapi.json", "/healthz", "/readyz", "/metrics"),
        *("/", "/gallery", "/gallery.zip", "/pictures/{}", "/farm", "/static/page.css", "/thumbnails/{}"),
        *("/v1/orders", "/v1/images/generations", "/nowhere"),
    ],
)
def test_it_answers_as_get_without_the_body(local: httpx.Client, fake: FakeKiln, path: str) -> None:
    job = sent(local)
    fake.work()
    path = path.format(job["id"])
    local.get("/readyz")
    with local.stream("GET", path, headers=HTML, timeout=30) as get:
        wanted = get.status_code, dict(get.headers)
    head = local.head(path, headers=HTML, timeout=30)
    assert (head.status_code, dict(head.headers) | {"date": ""}) == (wanted[0], wanted[1] | {"date": ""})
    assert head.content == b""
    assert local.get("/healthz").text == "ok\n"  # on the same connection


def test_an_address_that_needs_no_token_needs_none(door: Door, fake: FakeKiln) -> None:
    asked = {"prompt": "a fox", "model": "demo", "response_format": "url"}
    with at_work(fake):
        made = door("one").post("/v1/images/generations", json=asked).json()
    assert httpx.head(made["data"][0]["url"]).headers["content-type"] == "image/png"


def test_no_stream_stays(local: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "EACH", 1)
    for _ in range(3):
        until(lambda: local.head("/v1/events").status_code == 200, "the one before is over")


def test_what_the_bucket_sends_is_let_go(real: Door, kiln: Kiln) -> None:
    theirs = kiln.as_client("one")
    job = theirs.submit(prompt="a fox", model="demo", width=64, height=64)
    render(theirs)
    for _ in range(3):  # a socket that nobody closed would be told at the end
        assert real("one").head(f"/v1/jobs/{job.id}/image").status_code == 200
