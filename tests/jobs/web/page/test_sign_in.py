"""Signing in and out, and what a form must hold."""

from __future__ import annotations

import httpx
import pytest

from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.page.reading import HTML, Page, read
from tests.jobs.web.serving import People

NOBODY = {"Authorization": ""}


@pytest.fixture
def browser(door: Door) -> httpx.Client:
    """Who has not signed in."""
    client = door("one")
    client.headers.pop("Authorization")
    client.headers["Origin"] = str(client.base_url).rstrip("/")
    return client


def test_who_is_not_known_is_led_to_the_form(browser: httpx.Client) -> None:
    answer = browser.get("/gallery", headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Fgallery")
    assert (
        browser.get("/gallery", headers={"HX-Request": "true"}).headers["hx-redirect"]
        == "/sign-in?next=%2Fgallery"
    )
    asked = browser.get("/compare?a=x&b=y+z", headers=HTML).headers["location"]
    assert asked == "/sign-in?next=%2Fcompare%3Fa%3Dx%26b%3Dy%2Bz"
    assert browser.post("/farm/orders", headers=HTML).headers["location"] == "/sign-in"
    page = read(browser, "/sign-in?next=/gallery")
    assert page.all("input", name="next", value="/gallery")
    assert not page.all("nav")
    assert browser.get("/v1/jobs").status_code == 401


def test_a_token_becomes_one_cookie(browser: httpx.Client, people: People) -> None:
    answer = browser.post("/sign-in", data={"token": f" {people.tokens['one']} ", "next": "/batches"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/batches")
    (cookie,) = answer.headers.get_list("set-cookie")
    assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="))
    assert "Secure" not in cookie
    assert "one" in read(browser, "/").text
    assert browser.get("/v1/jobs").status_code == 200
    proxied = browser.post(
        "/sign-in", data={"token": people.tokens["one"]}, headers={"X-Forwarded-Proto": "https"}
    )
    assert "Secure" in proxied.headers["set-cookie"]


def test_what_is_no_token_is_told(browser: httpx.Client, people: People) -> None:
    for token in ("", "nonsense", people.tokens["one"][:-2] + "xx", "\u202e" * 100):
        answer = browser.post("/sign-in", data={"token": token})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        page = Page(answer.text)
        assert page.faults == []
        assert "This is no token" in page.text
        assert token[:20] not in page.text or not token


@pytest.mark.parametrize(
    "where", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb"]
)
def test_nobody_is_led_elsewhere(browser: httpx.Client, people: People, where: str) -> None:
    answer = browser.post("/sign-in", data={"token": people.tokens["one"], "next": where})
    assert answer.headers["location"] == "/"


def test_guesses_are_held_up_here_too(browser: httpx.Client, people: People) -> None:
    wrong = people.tokens["two"][:18] + "x" * 43
    codes = [browser.post("/sign-in", data={"token": wrong}).status_code for _ in range(12)]
    assert codes == [401] * 10 + [429] * 2


def test_with_a_cookie_only_our_own_page_may_act(
    browser: httpx.Client, people: People, fake: FakeKiln
) -> None:
    browser.post("/sign-in", data={"token": people.tokens["one"]})
    page = read(browser, "/")
    seal = str(page.all("input", name="csrf")[0]["value"])
    job = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert browser.post("/v1/jobs", json=job, headers=headers).status_code == 403
    browser.headers.pop("Origin")
    assert browser.post("/v1/jobs", json=job).status_code == 403  # no word of whence it comes
    assert browser.post("/v1/jobs", json=job, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 201
    browser.headers["Origin"] = str(browser.base_url).rstrip("/")
    for form in ({}, {"csrf": ""}, {"csrf": "x" * 32}, {"csrf": "\u00e9"}):
        assert browser.post("/sign-out", data=form, headers=HTML).status_code == 403
    answer = browser.post("/sign-out", data={"csrf": seal})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert browser.get("/", headers=HTML).status_code == 303


def test_a_seal_is_its_callers_alone(browser: httpx.Client, people: People) -> None:
    seals = []
    for who in ("one", "two"):
        browser.post("/sign-in", data={"token": people.tokens[who]})
        seals.append(read(browser, "/").all("input", name="csrf")[0]["value"])
    assert seals[0] != seals[1]
    assert browser.post("/sign-out", data={"csrf": str(seals[0])}).status_code == 403
