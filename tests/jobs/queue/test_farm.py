"""The farm is read in parts, however long what lies in it is, and whoever wrote it."""

from __future__ import annotations

from typing import Any

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.commands.farm import show
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.queue import farm
from pixelkiln.jobs.queue.farm import read_farm, read_open

MANY = 5000


def sent(kiln: Kiln) -> int:
    """Bytes that the server has sent in all."""
    stats: Any = kiln.redis.info("stats")
    return int(stats["total_net_output_bytes"])


@pytest.mark.parametrize("long", ["fields", "a field", "a name in it"])
def test_a_forged_workers_record_is_not_read_whole(kiln: Kiln, long: str) -> None:
    forged = {
        "fields": {f"field-{n}": "x" * 100 for n in range(MANY)},
        "a field": {"kiln_state": "x" * 100 * MANY},
        "a name in it": {"x" * 100 * MANY: "x"},
    }
    kiln.redis.sadd("rq:workers", "rq:worker:forged", "rq:worker:real")
    kiln.redis.hset("rq:worker:forged", mapping={"queues": "demo:bf16", **forged[long]})
    kiln.redis.hset("rq:worker:real", mapping={"queues": "demo:bf16", "kiln_state": "idle"})
    before = sent(kiln)
    workers = kiln.farm().workers
    assert sent(kiln) - before < 20_000
    assert [(one.name, one.state) for one in workers] == [("forged", ""), ("real", "idle")]
    assert {one.serves for one in workers} == {("demo:bf16",)}


def test_many_lanes_and_workers_are_read_in_parts(kiln: Kiln, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm, "LOOKED_AT", 3)
    for n in range(5):
        kiln.submit_many([{"prompt": "x", "model": "demo", "client": f"c{n}"}] * (n + 1))
        kiln.redis.sadd("rq:workers", f"rq:worker:w{n}")
        kiln.redis.hset(f"rq:worker:w{n}", "hostname", f"h{n}")
    found = read_farm(kiln.redis)
    assert [(lane.lane[-2:], lane.queued) for lane in found.lanes] == [(f"c{n}", n + 1) for n in range(5)]
    assert [(one.name, one.host) for one in found.workers] == [(f"w{n}", f"h{n}") for n in range(5)]


@pytest.mark.parametrize("place", ["queue", "deferred", "wip"])
def test_what_waits_is_read_in_parts_and_in_order(
    kiln: Kiln, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(farm, "PAGE", 2)
    monkeypatch.setattr(farm, "LANES", 2)
    expected = []
    for lane, count in enumerate((1, 2, 3, 7)):
        name = f"kiln:demo:bf16:normal:c{lane}"
        ids = [f"{lane}-{n}" for n in range(count)]
        kiln.redis.sadd("rq:queues", f"rq:queue:{name}")
        if place == "queue":
            kiln.redis.rpush(keys.QUEUE(name), *ids)
        else:
            ending = ":execution" if place == "wip" else ""
            kiln.redis.zadd(f"rq:{place}:{name}", {f"{one}{ending}": n for n, one in enumerate(ids)})
        expected += ids
    kiln.redis.sadd("rq:queues", "rq:queue:kiln:demo:bf16:normal:text")
    kiln.redis.set("rq:queue:kiln:demo:bf16:normal:text", "text")
    found = read_open(kiln.redis, Target.parse("farm"), "")
    assert sorted(found) == sorted(expected)
    for lane in range(4):
        assert [one for one in found if one.startswith(f"{lane}-")] == [
            one for one in expected if one.startswith(f"{lane}-")
        ]


def test_a_worker_that_lists_many_executions_is_read_in_parts(
    kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farm, "PAGE", 2)
    kiln.redis.sadd("rq:workers", "rq:worker:w")
    for n in range(5):
        kiln.redis.sadd("rq:worker:w:executions", f"j{n}:execution")
        kiln.redis.hset(f"rq:job:j{n}", mapping={"status": "started", "worker_name": "w" if n else "v"})
    found = read_open(kiln.redis, Target.parse("worker:w"), "")
    assert sorted(found) == ["j1", "j2", "j3", "j4"]


@pytest.mark.parametrize(
    ("beat", "age", "state"),
    [
        (-2.0, 2.0, "rendering mine"),
        (-5.0, 5.0, "rendering mine"),
        (-16.0, 16.0, "gone; was rendering mine"),
        (-50.0, 50.0, "gone; was rendering mine"),
        (3.0, 0.0, "rendering mine"),  # read a little late
        (3600.0, None, "rendering mine"),  # Redis's clock was set back since, or a forgery
        ("nan", None, "rendering mine"),
        ("", None, "rendering mine"),  # an older worker does not tell
    ],
)
def test_a_worker_whose_heartbeats_stopped_is_shown_as_gone(
    kiln: Kiln, capsys: pytest.CaptureFixture[str], beat: float | str, age: float | None, state: str
) -> None:
    seconds, microseconds = kiln.redis.time()  # type: ignore[misc]
    told = beat if isinstance(beat, str) else f"{seconds + microseconds / 1e6 + beat:.3f}"
    about = {
        "queues": "demo:bf16",
        "kiln_state": "rendering mine",
        "kiln_orders": "another",
        "last_heartbeat": "2026-11-26T06:00:00Z",
    }
    kiln.redis.hset("rq:worker:w", mapping=about | {"kiln_beat": told})
    kiln.redis.sadd("rq:workers", "rq:worker:w")
    found = kiln.farm()
    (worker,) = found.workers
    assert worker.state == state
    assert (worker.age is None) == (age is None)
    assert worker.age is None or age is None or worker.age >= age
    gone = state.startswith("gone")
    assert found.served == (set() if gone else {"demo:bf16"})
    assert kiln.workers_ignoring_orders() == ([] if gone else ["w"])
    show(found, whole=False)
    shown = capsys.readouterr().out
    assert ("2026-11-26T06:00:00" if age is None else " s ago") in shown
