"""The API's own description."""

from __future__ import annotations

import json

import httpx
from openapi_spec_validator import validate

from pixelkiln.testing import FakeKiln
from tests.jobs.web.serving import answered


def test_it_is_valid(local: httpx.Client) -> None:
    found = local.get("/v1/openapi.json").json()
    validate(found)
    assert all(path.startswith("/v1/") for path in found["paths"])


def test_every_route_tells_of_problems_and_asks_for_a_token(local: httpx.Client) -> None:
    found = local.get("/v1/openapi.json").json()
    for name, path in found["paths"].items():
        media = "application/json" if name.startswith("/v1/images/") else "application/problem+json"
        for operation in path.values():
            assert operation["security"] == [{"HTTPBearer": []}]
            for status in ("401", "422", "503"):
                assert list(operation["responses"][status]["content"]) == [media]


def test_a_refusal_is_of_the_form_that_its_route_tells(local: httpx.Client) -> None:
    found = local.get("/v1/openapi.json").json()
    for path in ("/v1/jobs", "/v1/images/generations"):
        answer = local.post(path, json={})
        told = found["paths"][path]["post"]["responses"][str(answer.status_code)]["content"]
        form = told[answer.headers["content-type"]]["schema"]["$ref"].rpartition("/")[2]
        assert set(found["components"]["schemas"][form]["required"]) <= set(answer.json())


def test_events_are_told_by_their_fields(local: httpx.Client, fake: FakeKiln) -> None:
    found = local.get("/v1/openapi.json").json()
    told = found["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    job = fake.submit(prompt="a fox", model="demo")
    fake.work()
    fields = dict(
        line.split(": ", 1) for line in local.get(f"/v1/jobs/{job.id}/events").text.splitlines() if line
    )
    assert fields["event"] in told["properties"]["event"]["enum"]
    assert set(fields) <= set(told["properties"])


def test_words_that_cannot_be_sent_are_not_sent_back(local: httpx.Client) -> None:
    for path in ("jobs", "images/generations"):
        sent = b'{"prompt": "a fox", "\\ud800": 1}'
        answer = local.post(f"/v1/{path}", content=sent, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), path


def test_what_is_no_http_is_refused_as_all_else(local: httpx.Client) -> None:
    head, _, body = answered(local, b"GET /v1/jobs\0 HTTP/1.1\r\nHost: localhost\r\n\r\n").partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400
