"""Jobs and pictures over HTTP."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixelkiln import Kiln
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.serving import serving

FOX = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64}


def sent(client: httpx.Client, spec: Any = FOX, **headers: str) -> Any:
    answer = client.post("/v1/jobs", json=spec, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_what_goes_wrong_here_is_told_as_all_else(
    local: httpx.Client, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    monkeypatch.setattr(FakeKiln, "status", lambda *told: 1 / 0)
    told = local.get("/pictures/x" if "html" in accept else "/v1/jobs/x", headers={"Accept": accept})
    assert (told.status_code, told.headers["X-Content-Type-Options"]) == (500, "nosniff")
    assert "the server" in told.text
    assert "division" not in told.text


@pytest.mark.parametrize(
    ("path", "methods"), [("/v1/jobs", "GET, POST"), ("/v1/jobs/a", "DELETE, GET"), ("/new", "GET, POST")]
)
def test_a_method_that_is_not_there_is_told_those_that_are(
    local: httpx.Client, path: str, methods: str
) -> None:
    answer = local.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)


def test_a_job_is_submitted_rendered_and_had(local: httpx.Client, fake: FakeKiln) -> None:
    job = sent(local)
    assert job["created"]
    assert job["spec"]["seed"] is not None
    assert local.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"
    early = local.get(f"/v1/jobs/{job['id']}/image")
    assert (early.status_code, early.headers["content-type"]) == (409, "application/problem+json")
    fake.work()
    told = local.get(f"/v1/jobs/{job['id']}").json()
    assert (told["state"], told["client"], told["spec"]) == ("finished", "default", job["spec"])
    picture = local.get(f"/v1/jobs/{job['id']}/image")
    sha256 = hashlib.sha256(picture.content).hexdigest()
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["etag"] == f'"{sha256}"'
    assert local.get(f"/v1/jobs/{job['id']}/sidecar").json()["png"]["sha256"] == sha256
    again = local.get(f"/v1/jobs/{job['id']}/image", headers={"If-None-Match": picture.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("bytes=0-7", 0, 7), ("bytes=100-", 100, -1), ("bytes=-10", -10, -1), ("bytes=0-0", 0, 0)],
)
def test_a_part_of_a_picture(local: httpx.Client, fake: FakeKiln, wanted: str, first: int, last: int) -> None:
    job = sent(local)
    fake.work()
    whole = local.get(f"/v1/jobs/{job['id']}/image").content
    part = local.get(f"/v1/jobs/{job['id']}/image", headers={"Range": wanted})
    first, last = first % len(whole), last % len(whole)
    assert (part.status_code, part.content) == (206, whole[first : last + 1])
    assert part.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"


@pytest.mark.parametrize(("wanted", "status"), [("bytes=9999999-", 416), ("bytes=5-2", 200), ("x", 200)])
def test_a_part_that_there_is_not(local: httpx.Client, fake: FakeKiln, wanted: str, status: int) -> None:
    job = sent(local)
    fake.work()
    answer = local.get(f"/v1/jobs/{job['id']}/image", headers={"Range": wanted})
    assert answer.status_code == status


def test_many_are_all_looked_at_before_one_is_sent(local: httpx.Client, fake: FakeKiln) -> None:
    answer = local.post("/v1/jobs", json=[FOX, {**FOX, "width": 100}])
    assert answer.status_code == 422
    assert answer.json()["field"] == "width"
    assert answer.json()["errors"][0]["place"] == 1
    assert fake.jobs() == []
    assert len(sent(local, [FOX, FOX])) == 2


def test_under_one_key_it_is_the_same_job(local: httpx.Client, fake: FakeKiln) -> None:
    first = sent(local, [FOX, FOX], **{"Idempotency-Key": "a"})
    again = local.post("/v1/jobs", json=[FOX, FOX], headers={"Idempotency-Key": "a"})
    assert again.status_code == 200
    assert [one["id"] for one in again.json()] == [one["id"] for one in first]
    assert not any(one["created"] for one in again.json())
    assert len(fake.jobs()) == 2


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "more of them": ("/v1/jobs", {"json": [FOX, FOX]}),
    "fewer": ("/v1/jobs", {"json": FOX}),
    "another prompt": ("/v1/jobs", {"json": [{**FOX, "prompt": "a hare"}]}),
    "another priority": ("/v1/jobs", {"json": [{**FOX, "priority": "low"}]}),
    "other labels": ("/v1/jobs", {"json": [{**FOX, "labels": {"a": "1"}}]}),
    "a seed": ("/v1/jobs", {"json": [{**FOX, "seed": 7}]}),
    "later": ("/v1/jobs?not_before=3h", {"json": [FOX]}),
    "a batch": ("/v1/batches", {"content": "a fox\n"}),
    "a generation": ("/v1/images/generations", {"json": FOX}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_under_one_key_another_request_is_refused(local: httpx.Client, fake: FakeKiln, other: str) -> None:
    key = {"Idempotency-Key": "a"}
    (first,) = sent(local, [FOX], **key)
    path, body = OTHERS[other]
    answer = local.post(path, headers=key, **body)
    assert (answer.status_code, "Idempotency-Key" in answer.text) == (422, True), answer.text
    assert [one.id for one in fake.jobs()] == [first["id"]]
    assert fake.batches() == []
    assert local.post("/v1/jobs", json=[FOX], headers=key).json()[0]["id"] == first["id"]


def test_a_key_is_one_clients_and_of_a_request_that_was_done(door: Door, fake: FakeKiln) -> None:
    key = {"Idempotency-Key": "a"}
    assert door("one").post("/v1/jobs", json={**FOX, "width": 100}, headers=key).status_code == 422
    made = {sent(door(who), {**FOX, "prompt": who}, **key)["id"] for who in ("one", "two")}
    assert len(made) == 2


def test_where_what_was_asked_for_is_forgotten_pictures_tell(local: httpx.Client, fake: FakeKiln) -> None:
    key = {"Idempotency-Key": "a"}
    sent(local, FOX, **key)
    fake.queue._asked.clear()
    answer = local.post("/v1/jobs", json={**FOX, "prompt": "a hare"}, headers=key)
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")


def test_cancelled_and_tried_again(local: httpx.Client, fake: FakeKiln) -> None:
    job = sent(local)
    assert local.delete(f"/v1/jobs/{job['id']}").json()["was"] == "queued"
    assert local.get(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"
    assert local.post(f"/v1/jobs/{job['id']}/retry").json()["was"] == "again"
    fake.work()
    assert local.delete(f"/v1/jobs/{job['id']}").json()["was"] == "finished"


def test_on_real_servers(real: Door, kiln: Kiln) -> None:
    one = real("one")
    job = sent(one)
    assert kiln.status(job["id"]).client == "one"
    assert one.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"
    assert real("two").get(f"/v1/jobs/{job['id']}").status_code == 404
    assert real("admin").delete(f"/v1/jobs/{job['id']}").json()["was"] == "queued"


def test_pages_of_jobs(local: httpx.Client, fake: FakeKiln) -> None:
    ids = [one["id"] for one in sent(local, [FOX] * 7)]
    fake.step()
    found: list[str] = []
    cursor, pages = None, 0
    while True:
        page = local.get("/v1/jobs", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        found, cursor, pages = [*found, *(one["id"] for one in page["jobs"])], page["next"], pages + 1
        if cursor is None:
            break
    assert (sorted(found), pages) == (sorted(ids), 3)
    assert [one["id"] for one in local.get("/v1/jobs?state=started").json()["jobs"]] == ids[:1]
    assert {one["spec"]["prompt"] for one in page["jobs"]} == {"a fox"}


def test_a_cursor_is_good_for_what_it_was_given_for(local: httpx.Client) -> None:
    sent(local, [FOX] * 3)
    cursor = local.get("/v1/jobs?limit=1").json()["next"]
    middle = len(cursor) // 2
    forged = cursor[:middle] + ("A" if cursor[middle] != "A" else "B") + cursor[middle + 1 :]
    for asked in (
        {"cursor": cursor, "state": "finished"},
        *({"cursor": text} for text in (forged, "", "x", "é", cursor[:20], "A" * 400)),
    ):
        answer = local.get("/v1/jobs", params=asked)
        assert (answer.status_code, answer.json().get("field")) == (422, "cursor"), asked
    assert len(local.get("/v1/jobs", params={"cursor": cursor}).json()["jobs"]) == 2


@pytest.mark.parametrize("asked", ["state=gone", "limit=0", "limit=201", "client=A B", "batch=a:b", "foo=1"])
def test_what_is_asked_for_wrongly_is_refused_by_its_name(local: httpx.Client, asked: str) -> None:
    answer = local.get(f"/v1/jobs?{asked}")
    assert (answer.status_code, answer.json()["field"]) == (422, asked.partition("=")[0])


def test_an_admin_names_whose_a_job_is_that_the_queue_forgot(door: Door, fake: FakeKiln) -> None:
    job = sent(door("one"))
    fake.work()
    del fake._farm._jobs[job["id"]]
    admin, about = door("admin"), f"/v1/jobs/{job['id']}"
    for path in (about, f"{about}/image", f"{about}/sidecar", f"{about}/events"):
        found = [
            admin.get(path, params=asked).status_code for asked in ({}, {"client": "one"}, {"client": "two"})
        ]
        assert found == [404, 200, 404], path
    again = admin.post(f"{about}/retry", params={"client": "one", "again": True})
    assert again.json() == {"id": job["id"], "was": "again"}
    assert admin.delete(about, params={"client": "two"}).status_code == 404
    assert admin.delete(about, params={"client": "one"}).json()["was"] == "queued"


def test_where_it_is_set_who_asks_is_sent_to_the_bucket(
    fake: FakeKiln, opened: ExitStack, tmp_path: Path
) -> None:
    fake.settings = fake.settings.model_copy(update={"image_links": True})
    where = opened.enter_context(serving(fake.settings, tmp_path / "none.json", fake))
    client = opened.enter_context(httpx.Client(base_url=where))
    job = sent(client)
    fake.work()
    for asked in ({}, {"If-None-Match": "*"}):  # an address that was kept is good no more
        answer = client.get(f"/v1/jobs/{job['id']}/image", headers=asked)
        assert (answer.status_code, answer.headers["cache-control"]) == (307, "no-store")
        assert "etag" not in answer.headers
        where = f"memory://jobs/default/{job['id']}/image.png?expires=300"
        assert answer.headers["location"].startswith(where)


def test_jobs_wait_until_they_may_be_taken(local: httpx.Client, fake: FakeKiln) -> None:
    made = local.post("/v1/jobs?not_before=2090-01-01T22:00Z", json=FOX).json()
    found = local.get(f"/v1/jobs/{made['id']}").json()
    assert (found["state"], found["not_before"]) == ("queued", "2090-01-01T22:00:00Z")
    wrong = local.post("/v1/jobs?not_before=soon", json=FOX)
    assert (wrong.status_code, wrong.json()["field"]) == (422, "not_before")
    assert len(fake.jobs()) == 1


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"json": []}, "must be a valid dictionary"),
        ({"content": '{"prompt": "a fox"}'}, "the header Content-Type: application/json"),
        ({"json": FOX, "headers": {"Idempotency-Key": "x" * 201}}, "is longer than 200 characters"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(local: httpx.Client, sent: Any, said: str) -> None:
    told = local.post("/v1/jobs", **sent)
    assert told.status_code == 422
    assert said in told.json()["detail"]
    messages = [one["message"] for one in told.json()["errors"]]
    assert len(set(messages)) == len(messages)


def test_a_name_that_is_none_is_told(local: httpx.Client) -> None:
    assert local.get("/v1/jobs?batch=a/b").json()["detail"] == "batch: is no such name or id"


def test_what_is_wrong_with_a_file_is_told_in_one_line(local: httpx.Client) -> None:
    told = local.post("/v1/batches?source=x.csv", content=b"prompt,steps\nfox,x\n,1\n").json()
    assert told["detail"].startswith("2 rows are refused, and nothing was sent: line 2: ")
    assert "; line 3: " in told["detail"]
    assert len(told["errors"]) == 2
