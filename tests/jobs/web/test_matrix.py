"""Every route that the API's own description has: with nobody's token, and with another client's.

A route that is not here yet fails, until it is said here what of the first client's it could show or touch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixelkiln.jobs.web.app import build
from pixelkiln.jobs.web.tokens import Tokens
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.test_events import heard
from tests.jobs.web.test_farm import FILE, picture
from tests.jobs.web.test_jobs import FOX, sent

SECRET = "what one alone shall read"
MINE = {"prompt": "of two's own", "model": "demo", "width": 64, "height": 64}

# What two sends, with the ids of one's things put in. 404: it names one's; 403: it is an admin's alone; else
# the answer shows nothing of one's.
ROUTES: dict[str, tuple[int, dict[str, Any]]] = {
    "get /v1/jobs": (200, {}),
    "post /v1/jobs": (201, {"json": MINE}),
    "get /v1/jobs/{id}": (404, {}),
    "delete /v1/jobs/{id}": (404, {}),
    "post /v1/jobs/{id}/retry": (404, {"params": {"again": "true"}}),
    "get /v1/jobs/{id}/image": (404, {}),
    "get /v1/jobs/{id}/sidecar": (404, {}),
    "get /v1/jobs/{id}/preview": (404, {}),
    "get /v1/jobs/{id}/events": (404, {}),
    "get /v1/events": (200, {}),
    "post /v1/references": (201, {"content": picture()}),
    "post /v1/batches": (201, {"content": FILE, "params": {"name": "night", "source": "a.csv"}}),
    "get /v1/batches": (200, {}),
    "get /v1/batches/{name}": (404, {}),
    "get /v1/batches/{name}/report": (404, {}),
    "post /v1/batches/{name}/{verb}": (404, {}),
    "get /v1/workers": (200, {}),
    "get /v1/lanes": (200, {}),
    "get /v1/models": (200, {}),
    "post /v1/orders": (403, {"json": {"verb": "pause", "target": "client:one"}}),
    "post /v1/images/generations": (422, {"json": {**MINE, "client": "one"}}),
    "post /v1/images/edits": (422, {"data": {**MINE, "client": "one"}, "files": {"image": picture()}}),
}


def described() -> list[tuple[str, dict[str, Any]]]:
    paths = build(FakeKiln(), Tokens(Path("/nonexistent/tokens.json"))).openapi()["paths"]
    return [(f"{how} {path}", route) for path, found in paths.items() for how, route in found.items()]


DESCRIBED = described()


def test_every_route_is_here() -> None:
    assert {name for name, _ in DESCRIBED} == set(ROUTES)


@pytest.fixture
def ones(door: Door, fake: FakeKiln) -> dict[str, str]:
    """What is one's: a finished job, one that waits, a batch, and a paused farm that leaves them so."""
    client = door("one")
    finished = sent(client, {**FOX, "prompt": SECRET, "labels": {"of": "one"}})
    fake.work()
    client.post("/v1/batches?name=night&source=night.csv", content=FILE.replace("a fox", SECRET))
    return {"id": finished["id"], "name": "night", "verb": "cancel"}


def asked(name: str, client: httpx.Client, ones: dict[str, str], fake: FakeKiln) -> httpx.Response:
    how, path = name.split(" ")
    if name == "get /v1/events":
        with heard(client, path) as events:
            mine = sent(client, {**MINE, "priority": "high"})
            fake.step()
            found = next(events)[2]
            assert found["id"] == mine["id"]
        return httpx.Response(200)
    return client.request(how, path.format(**ones), **ROUTES[name][1])


@pytest.mark.parametrize("name", ROUTES)
def test_another_clients_token_shows_and_changes_nothing(
    name: str, door: Door, ones: dict[str, str], fake: FakeKiln
) -> None:
    kiln = fake.as_client("one")
    before = {one.id: one for one in kiln.jobs()}, kiln.open_batch("night").status()
    answer = asked(name, door("two"), ones, fake)
    assert answer.status_code == ROUTES[name][0], answer.text
    hidden = [SECRET, ones["id"], *kiln.open_batch("night").ids, ":one"]
    assert [one for one in hidden if one in answer.text] == []
    assert before == ({one.id: one for one in kiln.jobs()}, kiln.open_batch("night").status())


@pytest.mark.parametrize("dry", [True, False], ids=["looked at", "sent"])
def test_a_row_of_another_client_tells_nothing_of_that_ones_pictures(door: Door, dry: bool) -> None:
    there = door("one").post("/v1/references", content=picture()).json()["name"]
    row = {"prompt": "a fox", "model": "flux2-klein-4b", "client": "one"}
    told = []
    for name in (there, "0" * 64):
        body = json.dumps("a fox") + "\n" + json.dumps({**row, "references": [name]})
        answer = door("two").post(f"/v1/batches?source=a.jsonl&dry_run={dry}", content=body)
        told.append(answer.json())
    assert told[0] == told[1]
    faults = told[0]["refused"] if dry else told[0]["errors"]
    assert [(one.get("line", one.get("place")), one["field"]) for one in faults] == [(2, "client")]
    assert len(told[0].get("first", "-")) == 1


def test_who_names_another_client_is_told_that_there_is_none(door: Door, ones: dict[str, str]) -> None:
    named = [name for name, route in DESCRIBED if "client" in names_behind(route)]
    assert len(named) > 3
    for name in named:
        how, path = name.split(" ")
        answer = door("two").request(how, path.format(**ones), params={"client": "one"})
        assert answer.status_code == 404, name
        none = door("two").request(how, path.format(**ones), params={"client": "nobody"})
        assert none.json() == answer.json()


def names_behind(route: dict[str, Any]) -> list[str]:
    return [one["name"] for one in route.get("parameters", []) if one["in"] == "query"]


def test_without_a_token_nothing_is_done(door: Door, ones: dict[str, str]) -> None:
    for name, (_, fields) in ROUTES.items():
        how, path = name.split(" ")
        no = {"Authorization": "Bearer kiln_none"}
        assert door("one").request(how, path.format(**ones), **fields, headers=no).status_code == 401, name


def test_names_that_a_route_does_not_have_are_refused(door: Door, ones: dict[str, str]) -> None:
    for name, (_, about) in ROUTES.items():
        how, path = name.split(" ")
        fields = {key: value for key, value in about.items() if key != "params"}
        answer = door("admin").request(how, path.format(**ones), params={"unknown": "1"}, **fields)
        assert (answer.status_code, "unknown" in answer.text) == (422, True), name
