"""`kiln serve` with the credentials that `deploy/` gives it: what it can do, and cannot."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import redis
from PIL import Image
from pydantic import SecretStr

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.errors import StorageRefusedError
from pixelkiln.jobs.queue.connection import connect
from tests.deploy.test_roles import ADMIN_KEY, DEPLOY, Act, Farm, acl, farm, small, worker
from tests.jobs.web.conftest import people
from tests.jobs.web.serving import People, serving
from tests.waiting import until
from tests.worker.watched import parsed, total

__all__ = ["farm", "people", "worker"]


@pytest.fixture
def door(farm: Farm, people: People) -> Iterator[httpx.Client]:
    """The server with its own rights; asked by the client 'one'."""
    kiln = Kiln(farm.settings("serve", admin_key=SecretStr(ADMIN_KEY)))
    kiln._bucket = farm.bucket("serve")
    with ExitStack() as stack:
        where = stack.enter_context(serving(kiln.settings, people.path, kiln))
        yield stack.enter_context(httpx.Client(base_url=where, headers=people.headers("one"), timeout=60))


def test_it_does_its_part(
    farm: Farm, worker: subprocess.Popen[bytes], door: httpx.Client, people: People, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "teal.png")
    uploaded = door.post("/v1/references", content=(tmp_path / "teal.png").read_bytes())
    assert uploaded.is_success, uploaded.text
    made = door.post("/v1/jobs", json=small())
    assert made.status_code == 201, made.text
    job_id = made.json()["jobs"][0]["id"] if "jobs" in made.json() else made.json()["id"]

    def state() -> str:
        return str(door.get(f"/v1/jobs/{job_id}").json()["state"])

    until(lambda: state() == "finished", "it is rendered")
    assert door.get(f"/v1/jobs/{job_id}/image").content.startswith(b"\x89PNG")
    assert door.get(f"/v1/jobs/{job_id}/sidecar").is_success
    assert door.get(f"/v1/jobs/{job_id}/preview").status_code in (200, 404)
    with door.stream("GET", f"/v1/jobs/{job_id}/events") as events:
        assert "finished" in next(line for line in events.iter_lines() if line.startswith("data:"))
    batch = door.post(
        "/v1/batches?name=night&source=n.csv", content="prompt,model,width,height\na,demo,64,64\n"
    )
    assert batch.is_success, batch.text
    assert door.get("/v1/batches/night").is_success
    key = {"Idempotency-Key": "k"}
    made, again, other = (door.post("/v1/jobs", json=small(seed=seed), headers=key) for seed in (1, 1, 2))
    assert (made.status_code, again.status_code, other.status_code) == (201, 200, 422), other.text
    assert door.get("/readyz", headers={"Authorization": ""}).text == "ready\n"

    admin = people.headers("admin")
    numbers = parsed(door.get("/metrics", headers=admin).text)
    assert total(numbers, "kiln_redis_up") == total(numbers, "kiln_storage_up") == 1
    assert total(numbers, "kiln_batches_due") == total(numbers, "kiln_webhooks_total") == 0
    for verb in ("pause", "resume"):
        given = door.post("/v1/orders", json={"verb": verb, "target": "farm"}, headers=admin)
        assert (given.status_code, given.json()["reached"]) == (201, 1)


def test_what_its_pages_keep(farm: Farm) -> None:
    bucket = farm.bucket("serve")
    bucket.put("thumbnails/one/fox/0123.webp", b"x", "image/webp")
    assert bucket.get("thumbnails/one/fox/0123.webp") == b"x"


def test_it_hears_what_workers_tell(farm: Farm) -> None:
    with connect(farm.settings("serve")) as client, client.pubsub() as heard:  # type: ignore[no-untyped-call]
        heard.subscribe(keys.EVENTS)
        assert heard.get_message(timeout=10)["type"] == "subscribe"
        assert client.getrange(keys.PREVIEW("default", "fox"), 0, 10) == b""


@pytest.mark.parametrize(
    "act",
    [
        lambda r: r.set("kiln:preview:fox", "x"),
        lambda r: r.set("kiln:farm", "x"),
        lambda r: r.delete("kiln:farm"),
        lambda r: r.hset("kiln:telling", "x:failed", 0),
        lambda r: r.lrange("kiln:mail", 0, 0),
        lambda r: r.hset("kiln:clocks", "one", 0),
        lambda r: r.zadd("kiln:leases", {"a:b": 1}),
        lambda r: r.hset("kiln:strays", "one:fox", "1 e"),
        lambda r: r.blpop(["kiln:bell:demo"], 1),
        lambda r: r.set("anything", "x"),
        lambda r: r.keys("*"),
        lambda r: r.scan(0),
        lambda r: r.flushdb(),
        lambda r: r.config_get("*"),
        lambda r: r.acl_list(),
        lambda r: r.eval("return 1", 0),
        lambda r: r.execute_command("SCRIPT", "FLUSH"),
        lambda r: r.execute_command("CLIENT", "LIST"),
        lambda r: r.execute_command("PSUBSCRIBE", "*"),
    ],
)
def test_what_redis_forbids_it(farm: Farm, act: Act) -> None:
    with connect(farm.settings("serve")) as client, pytest.raises(redis.ResponseError) as caught:
        act(client)
    assert re.search(r"no permissions|NOPERM|can't access", str(caught.value), re.IGNORECASE)


@pytest.mark.parametrize(
    ("action", "key"),
    [
        ("put", "jobs/one/1/image.png"),
        ("put", "jobs/one/1/sidecar.json"),
        ("delete", "jobs/one/1/image.png"),
        ("put", "elsewhere"),
        ("get", "elsewhere"),
    ],
)
def test_what_the_bucket_forbids_it(farm: Farm, action: str, key: str) -> None:
    arguments = (b"x", "text/plain") if action == "put" else ()
    with pytest.raises(StorageRefusedError):
        getattr(farm.bucket("serve"), action)(key, *arguments)


def test_it_may_what_its_scripts_call_and_a_producer_may() -> None:
    rules = {user: set(rules) for user, *rules in acl()}
    assert {one for one in rules["producer"] if one[0] in "+~"} <= rules["serve"]
    assert {one for one in rules["serve"] - rules["producer"] if one[0] == "+"} == {
        "+hlen",
        "+set",
        "+subscribe",
    }
    assert "serve" in (DEPLOY / "seaweedfs.json.example").read_text()


def test_without_the_key_it_gives_no_orders(farm: Farm) -> None:
    with Kiln(farm.settings("serve")) as kiln, pytest.raises(Exception, match="KILN_ADMIN_KEY"):
        kiln.pause(Target("farm"))


def test_an_older_users_file_costs_it_two_numbers_and_what_keys_stood_for(farm: Farm) -> None:
    """A server with a producer's user, as before there was one of its own."""
    with Kiln(farm.settings("producer")) as kiln:
        found = kiln.queue.pulse([])
        assert kiln.queue.note("one", "a-key", "this") == ""
        assert kiln.queue.note("one", "a-key", "that") == ""
    assert (found.due, found.late, found.webhooks) == (None, None, None)
