"""Those who are slow, many, or want a server to swell."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import httpx
import pytest

from pixelkiln.jobs.web import limits, server, streams
from tests.jobs.web.conftest import Door
from tests.jobs.web.serving import answered


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


def test_half_an_upload_stores_nothing(local: httpx.Client) -> None:
    with socket.create_connection((local.base_url.host, local.base_url.port or 0), timeout=30) as wire:
        wire.sendall(b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\na fox\n")
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
