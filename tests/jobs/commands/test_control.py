"""The commands that control a farm: what they print, with which exit code."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.control.orders import admin_key, fingerprint
from tests.jobs.commands.running import Run

KEY = "the key of an admin"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> str:
    monkeypatch.setenv("KILN_ADMIN_KEY", KEY)
    return KEY


def worker(kiln: Kiln, name: str, **fields: str) -> None:
    """List a worker as its heartbeat does."""
    kiln.redis.sadd("rq:workers", f"rq:worker:{name}")
    kiln.redis.hset(f"rq:worker:{name}", mapping={"queues": "demo:bf16", **fields})


@pytest.mark.usefixtures("key")
def test_orders_are_told_and_so_is_who_will_not_obey(run: Run, kiln: Kiln) -> None:
    own = fingerprint(admin_key(Settings.load()))
    worker(kiln, "mini-1-a", kiln_orders=own)
    ran = run("pause", "client:acme", "farm")
    assert (ran.code, ran.out, ran.err) == (
        0,
        "client:acme  paused  (1 worker)\nfarm  paused  (1 worker)\n",
        "",
    )
    worker(kiln, "mini-2-b", kiln_orders="")
    worker(kiln, "mini-3-c", kiln_orders="abcdabcd")
    ran = run("drain", "worker:mini-1", "--now", "--json")
    (order,) = ran.json
    assert (order["verb"], order["target"], order["now"]) == ("drain", "worker:mini-1", True)
    assert order["reached"] == 1
    assert ran.err == "kiln: mini-2-b, mini-3-c: no KILN_ADMIN_KEY, or another; will not obey\n"
    assert run("resume", "farm").out == "farm  not paused any more  (3 workers)\n"


@pytest.mark.usefixtures("key")
def test_orders_to_a_name_tell_how_many_workers_bear_it(run: Run, kiln: Kiln) -> None:
    own = fingerprint(admin_key(Settings.load()))
    for name in ("mini-aaaaaa", "mini-bbbbbb", "mini-2-cccccc"):
        worker(kiln, name, kiln_orders=own)
    assert run("pause", "worker:mini").out == "worker:mini  paused  (2 workers)\n"
    assert run("pause", "worker:mini-bbbbbb").out == "worker:mini-bbbbbb  paused  (1 worker)\n"
    assert run("pause", "worker:maxi").out == "worker:maxi  paused  (0 workers)\n"
    assert [one["reached"] for one in run("resume", "worker:mini", "worker:maxi", "--json").json] == [2, 0]


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    "arguments",
    [
        ["pause"],
        ["pause", "everything"],
        ["pause", "farm", "a-job"],
        ["drain", "client:acme"],
        ["drain", "model:demo"],
        ["resume", "model:gpt"],
        ["cancel", "client:Bad Name"],
        ["cancel", "client:other"],
    ],
)
def test_what_cannot_be_ordered_is_refused_whole(run: Run, kiln: Kiln, arguments: list[str]) -> None:
    assert run(*arguments).code == 2
    assert kiln.redis.exists("kiln:orders") == 0


def test_without_a_key_orders_cannot_be_given(run: Run) -> None:
    ran = run("pause", "farm")
    assert ran.code == 3
    assert ran.err.startswith("kiln: KILN_ADMIN_KEY is not set")


def test_a_short_key_is_refused_without_being_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_ADMIN_KEY", "hunter2")
    ran = run("pause", "farm")
    assert (ran.code, "KILN_ADMIN_KEY: " in ran.err, "hunter2" in ran.err) == (2, True, False)


@pytest.mark.usefixtures("key")
def test_what_is_paused_is_told_with_the_farm_and_at_submit(run: Run, kiln: Kiln) -> None:
    worker(kiln, "mini-1-a", kiln_paused="client:default,model:demo")
    assert "paused: client:default, model:demo" in run("status").out
    assert run("status", "--json").json["workers"][0]["paused"] == "client:default,model:demo"
    ran = run("submit", "a fox", "-m", "demo")
    assert ran.code == 0
    assert "kiln: client:default is paused; it waits for: kiln resume client:default" in ran.err


def test_cancelling_a_client_is_told_job_by_job(run: Run, kiln: Kiln) -> None:
    kiln.submit_many([{"prompt": "x", "model": "demo"}] * 2, ids=["a", "b"])
    kiln.submit(id="c", prompt="x", model="demo", client="other")
    assert run("cancel", "client:default").out == "a  cancelled\nb  cancelled\n"
    assert run("cancel", "farm").err == "kiln: nothing of client default is there to cancel\n"
    assert run("cancel", "farm", "--any-client", "--json").json == {"c": "queued"}
