"""Those who are slow, many, or want a server to swell."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from types import SimpleNamespace

import httpx
import pytest
from fastapi import Request
from starlette.types import Message

from pixelkiln.jobs.catalogue import MAX_REFERENCES
from pixelkiln.jobs.spec import MAX_LABELS, RenderSpec
from pixelkiln.jobs.web import limits, receiving, server, streams
from pixelkiln.jobs.web.api.jobs import MOST
from pixelkiln.jobs.web.problems import ProblemError
from pixelkiln.jobs.web.who import Caller
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.serving import answered
from tests.jobs.web.test_farm import picture
from tests.jobs.web.test_openai import at_work
from tests.waiting import until


def test_a_head_that_drips_is_hung_up_on(local: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD", 0.2)
    assert answered(local, b"GET /v1/jobs HTTP/1.1\r\nHost: local") == b""
    assert local.get("/v1/jobs").status_code == 200


def test_the_next_head_that_drips_is_hung_up_on(local: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD", 0.2)
    with socket.create_connection((local.base_url.host, local.base_url.port or 0), timeout=30) as wire:
        wire.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert wire.recv(65536).startswith(b"HTTP/1.1 200")
        wire.sendall(b"GET /v1")
        while wire.recv(65536):
            pass


def test_a_body_that_does_not_come_is_not_waited_for(
    local: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BEGIN", 0.2)
    for path in ("jobs", "references", "batches"):
        head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{"
        assert answered(local, head.encode()).startswith(b"HTTP/1.1 408 ")


def test_after_its_body_a_request_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BEGIN", 0.05)
    sent = iter([{"type": "http.request", "body": b"x", "more_body": False}, {"type": "http.disconnect"}])
    told = list[str]()

    async def receive() -> Message:
        await asyncio.sleep(0.2 if told else 0)
        return next(sent)

    async def act() -> list[str]:
        reading = limits.bounded(receive, 9, lambda: told.append("ended"))
        return [(await reading())["type"], (await reading())["type"]]

    assert asyncio.run(act()) == ["http.request", "http.disconnect"]
    assert told == ["ended"]


def test_who_uploads_slowly_leaves_places_to_others(door: Door) -> None:
    one, two = door("one"), door("two")
    head = (
        "POST /v1/references HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
        f"Authorization: {one.headers['Authorization']}\r\n\r\n"
    )
    where = one.base_url.host, one.base_url.port or 0
    with ExitStack() as stack:
        for _ in range(limits.EACH):
            wire = stack.enter_context(socket.create_connection(where, timeout=30))
            wire.sendall(head.encode())
        until(lambda: one.post("/v1/batches", content=b"").status_code == 503, "all its places are taken")
        assert two.post("/v1/batches", content=b"").status_code == 422
    until(lambda: one.post("/v1/batches", content=b"").status_code == 422, "they are left")


def test_large_json_has_few_places_and_small_needs_none(door: Door) -> None:
    one, two = door("one"), door("two")
    large = {"prompt": "x" * 2 * limits.SMALL}
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {4 * limits.SMALL}\r\n"
        f"Authorization: {one.headers['Authorization']}\r\n\r\n"
    )
    where = one.base_url.host, one.base_url.port or 0
    with ExitStack() as stack:
        for _ in range(limits.EACH):
            wire = stack.enter_context(socket.create_connection(where, timeout=30))
            wire.sendall(head.encode() + b" " * 3 * limits.SMALL)
        until(lambda: one.post("/v1/jobs", json=large).status_code == 503, "all its places are taken")
        assert one.post("/v1/jobs", json={"prompt": ""}).status_code == 422
        assert one.post("/v1/batches", content=b"").status_code == 422
        assert two.post("/v1/jobs", json=large).status_code == 422
    until(lambda: one.post("/v1/jobs", json=large).status_code == 422, "they are left")


def test_an_answer_that_takes_long_keeps_no_place(door: Door, fake: FakeKiln) -> None:
    one = door("one")
    edit = {"prompt": "as a painting", "model": "flux2-klein-4b"}

    def ask() -> int:
        image = {"image": ("a.png", picture())}
        return one.post("/v1/images/edits", data=edit, files=image, timeout=60).status_code

    with ThreadPoolExecutor(limits.EACH + 1) as threads:
        asked = []
        for known in range(limits.EACH + 1):
            asked.append(threads.submit(ask))
            until(lambda known=known: len(one.get("/v1/jobs").json()["jobs"]) > known, "it is waited for")
        with at_work(fake):
            assert {each.result() for each in asked} == {200}


def test_reports_that_one_asks_for_queue_out_nobody(
    door: Door, fake: FakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    come, really = threading.Event(), fake.bucket.get
    for who in ("one", "two"):
        fake.as_client(who).batch([{"prompt": "a fox", "model": "demo"}], "night")
    fake.work()
    monkeypatch.setattr(fake.bucket, "get", lambda key: really(key) if come.wait(30) else None)
    report, many = "/v1/batches/night/report", receiving.EACH["reports"]
    one, two = door("one"), door("two")
    with ThreadPoolExecutor() as threads:
        asked = [threads.submit(one.get, report) for _ in range(many + 1)]
        try:
            refused = next(as_completed(asked, 30)).result()
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        finally:
            come.set()
        assert sorted(each.result().status_code for each in asked) == [200] * many + [429]
        assert two.get(report).status_code == 200


def test_for_who_has_left_nothing_is_begun() -> None:
    begun = list[int]()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    app = SimpleNamespace(state=SimpleNamespace(few=receiving.fewer()))
    request = Request({"type": "http", "app": app, "caller": Caller("one", "one")}, receive)
    with pytest.raises(ProblemError):
        asyncio.run(receiving.heavily(request, lambda: begun.append(1)))
    assert begun == []


@pytest.mark.parametrize("path", ["/sign-in", "/healthz", "/v1/openapi.json", "/static/page.css"])
def test_strangers_send_little(door: Door, path: str) -> None:
    told = door("one").post(path, content=b"x" * 20_000, headers={"Authorization": ""})
    assert told.status_code == 413


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/references", "/v1/images/edits"])
def test_half_an_upload_stores_nothing_and_is_no_fault_of_the_servers(
    local: httpx.Client, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    caplog.set_level(logging.DEBUG, logger="kiln.serve")
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    with socket.create_connection((local.base_url.host, local.base_url.port or 0), timeout=30) as wire:
        wire.sendall(f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode())
    until(lambda: f"POST {path}" in caplog.text, "it is told")
    assert [record.levelname for record in caplog.records if record.name == "kiln.serve"] == ["DEBUG"]
    assert local.get("/v1/batches").json() == []


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1000,
        b'{"prompt":' * 1000,
        b"[" + b"[]," * 300_000 + b"[]]",
        b'{"seed": 1' + b"0" * 5000 + b"}",
        b'{"prompt": "\\ud800", "model": "demo"}',
        b'{"prompt": "' + b"x" * 200_000 + b'"}',
        b'{"guidance": NaN, "prompt": "x", "model": "demo"}',
        b'{"guidance": Infinity, "prompt": "x", "model": "demo"}',
        b'"\\' + b'\\"' * 100_000,
        b"\xff\xfe",
        b"",
        b"null",
        b'{"prompt": {"a": [1]}}',
        b'[{"prompt": "a", "model": "demo"}, 1]',
    ],
)
def test_json_that_is_meant_to_hurt(local: httpx.Client, body: bytes) -> None:
    answer = local.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.text) < 2000
    assert local.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" + b'"",' * 200_000 + b'""]', "more than 128,000 values"),
        (b'{"a": [' + b'"]",' * 3 + b"[" * 40, "deeper than 32"),
        (b'["\\"]", ' + b"[" * 40, "deeper than 32"),
        (('["\\"", ' + "[" * 40 + "]" * 41).encode("utf-16"), "sent in UTF-8"),
        (('["\\"", ' + "[" * 40 + "]" * 41).encode("utf-32-le"), "sent in UTF-8"),
    ],
)
def test_what_takes_more_to_read_than_to_send_is_not_read(
    local: httpx.Client, body: bytes, said: str
) -> None:
    for media in ("application/json", "application/x-www-form-urlencoded+json", ""):
        answer = local.post("/v1/jobs", content=body, headers={"Content-Type": media})
        assert answer.status_code == 422
        assert said in answer.json()["detail"]


def test_a_thousand_jobs_that_say_all_there_is_are_not_too_much() -> None:
    box = dict.fromkeys(("x1", "x2", "y1", "y2"), 0.1) | {"text": '"[{,\\'}
    many = {"references": ["0" * 64], "layout": [box]}
    spec = dict.fromkeys(RenderSpec.model_fields, 1) | {
        **{name: value * MAX_REFERENCES for name, value in many.items()},
        "labels": {f"label-{number}": "" for number in range(MAX_LABELS)},
    }
    limits.check_json(json.dumps([spec] * MOST, indent=1).encode())


def test_while_a_large_body_is_looked_at_others_are_answered(
    local: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on, really = threading.Event(), threading.Event(), limits.check_json

    def check(body: bytes) -> None:
        began.set()
        assert go_on.wait(30)
        really(body)

    monkeypatch.setattr(limits, "check_json", check)
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(local.post, "/v1/jobs", json=[{"prompt": "x" * limits.SMALL}])
        assert began.wait(30)
        assert httpx.get(local.base_url.join("/healthz"), timeout=20).status_code == 200
        go_on.set()
        assert asked.result().status_code == 422


def test_many_streams_of_one_are_refused_in_words(
    door: Door, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "EACH", 3)
    monkeypatch.setattr(streams, "STREAMS", 5)
    for _ in range(3):
        assert opened.enter_context(door("one").stream("GET", "/v1/events")).status_code == 200
    assert door("one").get("/v1/events").status_code == 429
    for _ in range(2):
        assert opened.enter_context(door("two").stream("GET", "/v1/events")).status_code == 200
    refused = door("two").get("/v1/events")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations", "/"])
def test_one_connection_too_many_is_refused_in_words(
    local: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    local.get("/v1/jobs").raise_for_status()  # and stays connected
    monkeypatch.setattr(server, "CONNECTIONS", 1)
    told = httpx.get(local.base_url.join(path), headers={"Accept": "text/html"})
    assert (told.status_code, told.headers["Retry-After"]) == (503, "5")
    said = told.json()
    assert "too many are connected" in (said["error"]["message"] if "images" in path else said["detail"])
    assert local.get("/v1/jobs").status_code == 200


def test_too_many_requests_are_refused_for_a_while(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.Rates, "take", lambda self, who, cost=1.0: 2.0)
    answer = door("one").get("/v1/jobs")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


def test_rates_fill_up_again() -> None:
    now = [0.0]
    rates = limits.Rates(2.0, 3, lambda: now[0])
    assert [rates.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rates.take("b") == 0.0
    now[0] = 0.5
    assert (rates.take("a"), rates.take("a")) == (0.0, 0.5)
