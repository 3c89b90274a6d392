"""References, batches, the farm and orders over HTTP."""

from __future__ import annotations

import gc
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from PIL import Image

from pixelkiln import Kiln
from pixelkiln.jobs.batches.books import Books
from pixelkiln.jobs.batches.manifest import Manifest
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.serving import answered
from tests.jobs.web.test_jobs import FOX, sent

FILE = "prompt,model,width,height\na fox,demo,64,64\na hare,demo,64,64\n"


def picture(size: tuple[int, int] = (64, 64)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "teal").save(out, "PNG")
    return out.getvalue()


def test_a_reference_is_stored_once_by_content(real: Door, kiln: Kiln) -> None:
    body = picture()
    name = real("one").post("/v1/references", content=body).json()["name"]
    assert name == hashlib.sha256(body).hexdigest()
    assert real("one").post("/v1/references", content=body).json()["name"] == name
    assert kiln.bucket.get(f"refs/one/{name}") == body
    assert kiln.bucket.get(f"refs/two/{name}") is None
    spec = {"prompt": "a fox", "model": "flux2-klein-4b", "references": [name]}
    assert sent(real("one"), spec)["spec"]["width"] == 64
    other = real("two").post("/v1/jobs", json=spec)
    assert (other.status_code, other.json()["field"]) == (422, "references.0")


@pytest.mark.parametrize("body", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, picture()[:60]])
def test_what_is_no_picture_is_not_stored(local: httpx.Client, body: bytes) -> None:
    answer = local.post("/v1/references", content=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "body"), answer.text
    assert "/tmp" not in answer.text


def test_a_body_that_is_too_large_is_not_read(local: httpx.Client) -> None:
    for path, size in (("references", 70 * 2**20), ("jobs", 5 * 2**20), ("batches", 40 * 2**20)):
        head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
        assert answered(local, head.encode()).startswith(b"HTTP/1.1 413 ")

    def dripped():  # type: ignore[no-untyped-def] # of no length that is told
        yield from (b"x" * 2**20 for _ in range(6))

    assert local.post("/v1/jobs", content=dripped()).status_code == 413


def test_a_file_of_jobs(local: httpx.Client, fake: FakeKiln) -> None:
    sent = local.post("/v1/batches?name=night&source=night.csv", content=FILE)
    assert (sent.status_code, sent.json()["new"]) == (201, 2)
    again = local.post("/v1/batches?name=night", content=FILE + "an owl,demo,64,64\n").json()
    assert (again["new"], again["there"]) == (1, 2)
    assert local.post("/v1/batches/night/pause").json()["jobs"] == 3
    assert local.get("/v1/batches/night").json()["paused"]
    assert local.post("/v1/batches/night/resume").json()["jobs"] == 3
    high = local.post("/v1/batches/night/prioritize?priority=high").json()
    assert high == {"name": "night", "verb": "prioritize", "jobs": 3}
    fake.next_fails()
    fake.work()
    assert local.get("/v1/batches/night").json()["finished"] == 3
    assert [one["total"] for one in local.get("/v1/batches").json()] == [3]
    page = local.get("/v1/jobs?batch=night&limit=2").json()
    rest = local.get(f"/v1/jobs?batch=night&limit=2&cursor={page['next']}").json()
    assert (len(page["jobs"]), len(rest["jobs"]), rest["next"]) == (2, 1, None)
    report = local.get("/v1/batches/night/report")
    assert report.headers["content-type"] == "text/html; charset=utf-8"
    assert "script" not in report.headers["content-security-policy"]
    assert "night" in local.get("/v1/batches/night/report?format=json").text


def test_a_file_is_tried_without_sending(real: Door, kiln: Kiln) -> None:
    plan = real("one").post("/v1/batches?dry_run=true&source=night.csv", content=FILE)
    assert plan.status_code == 200
    assert (plan.json()["jobs"], plan.json()["estimate"]["unserved"]) == (2, ["demo:bf16"])
    assert kiln.jobs(client=None) == []


def test_a_file_is_for_a_night(real: Door, kiln: Kiln) -> None:
    one, how = real("one"), "source=night.csv&draft=true&deadline=9h&not_before=2090-01-01T22:00Z"
    plan = one.post(f"/v1/batches?dry_run=true&{how}", content=FILE).json()
    assert (plan["first"][0]["steps"], plan["deadline"]["fits"]) == (
        CATALOGUE["demo"].shares(64, 64).draft[0],
        None,
    )
    assert one.post(f"/v1/batches?name=night&{how}", content=FILE).status_code == 201
    due = datetime.fromisoformat(one.get("/v1/batches/night").json()["deadline"]["deadline"])
    assert timedelta(hours=8) < due - datetime.now(UTC) <= timedelta(hours=9)
    assert {job.not_before for job in kiln.as_client("one").jobs()} == {"2090-01-01T22:00:00Z"}
    fast = one.post("/v1/batches?dry_run=true&fast=true&source=a.csv", content=FILE).json()["first"][0]
    assert fast["coarse_steps"] == CATALOGUE["demo"].shares(64, 64).fast


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ("deadline=soon", "deadline"),
        ("deadline=2020-01-01", "deadline"),
        ("deadline=0h", "deadline"),
        ("deadline=9999-12-31T23:59-12:00", "deadline"),  # which is none in other zones
        ("not_before=9999-12-31T23:59-12:00", "not_before"),
        ("not_before=0001-01-01T00:00%2B12:00", "not_before"),
        ("not_before=99:00", "not_before"),
        ("window=Mo-Xx", "window"),
        ("not_before=3h&window=22:00-07:00", "window"),
        ("fast=true&draft=true", "draft"),
    ],
)
def test_what_is_no_time_for_a_file_is_named(
    local: httpx.Client, fake: FakeKiln, how: str, field: str
) -> None:
    key = {"Idempotency-Key": "k"}
    answer = local.post(f"/v1/batches?source=a.csv&{how}", content=FILE, headers=key)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert fake.jobs() == []
    assert local.post("/v1/batches?source=a.csv", content=FILE, headers=key).status_code == 201


def test_a_file_under_a_key_is_the_same_batch(local: httpx.Client) -> None:
    names = {
        local.post("/v1/batches", content=FILE, headers={"Idempotency-Key": "k"}).json()["name"]
        for _ in range(2)
    }
    assert len(names) == 1
    assert len(local.get("/v1/batches").json()) == 1


def test_batches_are_listed_without_holding_all_of_them(
    local: httpx.Client, fake: FakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        fake.batch([FOX], f"night-{n}", source="a.csv")  # type: ignore[list-item]
    alive, find = list[int](), Books.find

    def finding(books: Books, name: str) -> Manifest | None:
        alive.append(sum(type(one) is Manifest for one in gc.get_objects()))  # asks no proxy
        return find(books, name)

    monkeypatch.setattr(Books, "find", finding)
    found = local.get("/v1/batches?limit=3").json()
    assert [(one["name"], one["source"], one["total"]) for one in found] == [
        (f"night-{n}", "a.csv", 1) for n in (3, 2, 1)
    ]
    assert [one - alive[0] for one in alive] == [0, 1, 1]


@pytest.mark.parametrize("name", ["", "&name=night"])
def test_a_file_sent_again_under_its_key_leaves_what_became_of_it(real: Door, kiln: Kiln, name: str) -> None:
    one, key = real("one"), {"Idempotency-Key": "k"}

    def post(**headers: str) -> dict[str, int]:
        answer = one.post(f"/v1/batches?deadline=9h{name}", content=FILE, headers=headers)
        assert answer.status_code == 201, answer.text
        return {told: answer.json()[told] for told in ("new", "again", "there")}

    assert post(**key) == {"new": 2, "again": 0, "there": 0}
    (batch,) = kiln.as_client("one").batches()
    batch.cancel()
    assert post(**key) == {"new": 0, "again": 0, "there": 2}
    assert kiln.as_client("one").open_batch(batch.name).manifest == batch.manifest  # and its deadline
    assert post(**{"Idempotency-Key": "l"})["again" if name else "new"] == 2  # another request


@pytest.mark.parametrize(
    ("how", "file"),
    [
        ("", FILE + "a cat,demo,64,64\n"),
        ("?name=dusk", FILE),
        ("?model=demo", FILE),
        ("?not_before=3h", FILE),
    ],
    ids=["another file", "another name", "another model", "later"],
)
@pytest.mark.parametrize("name", ["", "?name=night"])
def test_under_one_key_another_file_is_refused(
    local: httpx.Client, fake: FakeKiln, name: str, how: str, file: str
) -> None:
    key = {"Idempotency-Key": "k"}
    assert local.post(f"/v1/batches{name}", content=FILE, headers=key).status_code == 201
    other = local.post(f"/v1/batches{how}", content=file, headers=key)
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key"), other.text
    assert (len(fake.batches()), len(fake.jobs())) == (1, 2)
    looked = local.post("/v1/batches?dry_run=true", content=file, headers=key)
    assert looked.status_code == 200


def test_a_file_names_no_files_of_the_servers_machine(local: httpx.Client) -> None:
    rows = [{"prompt": "a fox", "model": "flux2-klein-4b", "ref": ref} for ref in ("/a.png", [["/b.png"]])]
    answer = local.post("/v1/batches?format=json", content=json.dumps(rows))
    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == ["ref", "ref"]
    assert "uploaded" in answer.json()["errors"][0]["message"]


def test_what_is_wrong_in_a_file_is_told_by_line_and_field(local: httpx.Client, fake: FakeKiln) -> None:
    bad = FILE + "an owl,demo,100,64\n,demo,64,64\n"
    answer = local.post("/v1/batches?source=a.csv", content=bad)
    assert answer.status_code == 422
    assert [(one["place"], one["field"]) for one in answer.json()["errors"]] == [(4, "width"), (5, "prompt")]
    assert fake.jobs() == []
    taken = local.post("/v1/batches?source=a.csv&skip_bad=true", content=bad).json()
    assert (taken["new"], len(taken["refused"])) == (2, 2)


def test_orders_are_for_admins(door: Door, fake: FakeKiln) -> None:
    asked = {"verb": "pause", "target": "farm"}
    assert door("one").post("/v1/orders", json=asked).status_code == 403
    given = door("admin").post("/v1/orders", json=asked)
    assert (given.status_code, given.json()["order"]["verb"], given.json()["ignoring"]) == (201, "pause", [])
    sent(door("one"))
    fake.work()
    assert door("one").get("/v1/jobs?state=queued").json()["jobs"]
    assert door("admin").get("/v1/workers").json()[0]["paused"] == ["farm"]
    assert door("admin").post("/v1/orders", json={**asked, "verb": "resume"}).status_code == 201
    for wrong in ({**asked, "target": "x"}, {**asked, "verb": "stop"}, {**asked, "extra": 1}):
        assert door("admin").post("/v1/orders", json=wrong).status_code == 422


def test_what_others_do_is_not_told(door: Door, fake: FakeKiln) -> None:
    job = sent(door("one"))
    fake.step()
    assert job["id"] in door("admin").get("/v1/workers").json()[0]["state"]
    assert door("two").get("/v1/workers").json()[0]["state"] == "rendering"
    assert [one["lane"] for one in door("one").get("/v1/lanes").json()] == ["kiln:demo:bf16:normal:one"]
    assert door("two").get("/v1/lanes").json() == []


def test_models_are_told_with_their_fields(local: httpx.Client) -> None:
    found = {one["id"]: one for one in local.get("/v1/models").json()["data"]}
    assert found["demo"]["fields"]["properties"]["width"]["multipleOf"] == 32
    assert sent(local, FOX)["spec"]["model"] in found
