"""Status is read from RQ's own record, whoever wrote it and however badly."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rq import Queue
from rq.job import Job
from rq.job import JobStatus as RQStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln
from pixelkiln.jobs.queue.farm import LaneStatus, read_farm
from pixelkiln.jobs.queue.record import FUNCTION
from pixelkiln.jobs.queue.status import MAX_ERROR, read_statuses

LANE = "kiln:demo:bf16:normal:default"


def put(kiln: Kiln, **fields: Any) -> None:
    kiln.redis.hset("rq:job:a", mapping={"status": "queued", "origin": LANE, **fields})


def result(kiln: Kiln, **fields: Any) -> None:
    kiln.redis.xadd("rq:results:a", fields)


def encoded(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_every_state_of_rqs_has_one_of_ours(kiln: Kiln) -> None:
    for job in RQStatus:
        put(kiln, status=job.value)
        assert kiln.status("a").state in {"queued", "started", "finished", "failed", "cancelled"}
    for word in ("canceled", "stopped"):
        put(kiln, status=word)
        assert kiln.status("a").state == "cancelled"
        assert kiln.status("a").ended


def test_a_plain_rq_job_shows(kiln: Kiln) -> None:
    queue = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer)
    job = queue.enqueue(FUNCTION, {"prompt": "x"})
    found = kiln.status(job.id)
    assert (found.state, found.lane, found.attempt, found.phase) == ("queued", LANE, 0, None)
    assert found.submitted_at
    job.cancel()
    assert kiln.status(job.id).state == "cancelled"


def test_progress_shows_while_started_only(kiln: Kiln) -> None:
    meta = json.dumps({"phase": "rendering", "step": 3, "steps": 28})
    put(kiln, status="started", meta=meta, worker_name="mac-1", kiln_attempts=2)
    found = kiln.status("a")
    assert (found.phase, found.step, found.steps) == ("rendering", 3, 28)
    assert (found.worker, found.attempt) == ("mac-1", 2)
    put(kiln, status="finished")
    assert kiln.status("a").phase is None


def test_results_of_rqs_own_format(kiln: Kiln) -> None:
    value = {"png": "p", "sidecar": "s", "sha256": "0"}
    job = Job.create(FUNCTION, connection=kiln.redis, id="a", serializer=JSONSerializer)
    put(kiln, status="finished")
    Result.create(job, Result.Type.SUCCESSFUL, 60, return_value=value)
    assert kiln.status("a").as_dict()["result"] == value
    put(kiln, status="failed")
    Result.create_failure(job, 60, "Traceback …\n  File …\nValueError: the last line")
    found = kiln.status("a")
    assert (found.error, found.result) == ("ValueError: the last line", None)


@pytest.mark.parametrize(
    "meta",
    [
        "",
        "{",
        "[]",
        "null",
        b"\xff\xfe",
        "[" * 50_000,
        '{"phase": []}',
        '{"phase": {}}',
        '{"phase": "melting", "step": -1}',
        '{"step": "many", "steps": null}',
        '{"step": 1e999, "steps": NaN}',
        '{"step": ' + "9" * 5000 + "}",
    ],
)
def test_malformed_progress_is_no_progress(kiln: Kiln, meta: Any) -> None:
    put(kiln, status="started", meta=meta)
    found = kiln.status("a")
    assert (found.state, found.phase, found.step, found.steps) == ("started", None, 0, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": b"\xff"},
        {"status": ""},
        {"status": "on fire", "kiln_attempts": "x"},
        {"origin": b"\xff\xfe", "worker_name": b"\xff", "enqueued_at": b"\xff"},
        {"kiln_attempts": "inf"},
        {"kiln_attempts": "-3"},
        {b"\xff\xfe": b"\xff"},
    ],
)
def test_malformed_records_are_shown_as_well_as_may_be(kiln: Kiln, fields: dict[Any, Any]) -> None:
    kiln.redis.hset("rq:job:a", mapping={"status": "queued", **fields})
    found = kiln.status("a")
    assert found.attempt == 0
    json.dumps(found.as_dict())


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "1", "return_value": "not base64"},
        {"type": "1", "return_value": base64.b64encode(b"\x80\x04.").decode()},
        {"type": "1", "return_value": encoded([1])},
        {"type": "1", "return_value": encoded({"png": 1})},
        {"type": "1", "return_value": encoded({})},
        {"type": "1", "return_value": encoded({"png": "only"})},
        {"type": "9"},
        {"nothing": "known"},
        {"type": "2", "exc_string": "not zlib"},
        {"type": "2", "exc_string": base64.b64encode(zlib.compress(b"\xff")).decode()},
    ],
)
def test_malformed_results_are_no_results(kiln: Kiln, fields: dict[str, str]) -> None:
    put(kiln, status="finished")
    result(kiln, **fields)
    assert kiln.status("a").result is None


def test_keys_of_other_types_are_survived(kiln: Kiln) -> None:
    kiln.redis.set("rq:job:b", "text")
    kiln.redis.rpush("rq:job:c", "list")
    put(kiln, status="finished")
    kiln.redis.set("rq:results:a", "text")
    found = read_statuses(kiln.redis, ["a", "b", "c"])
    assert found["b"] is None
    assert found["c"] is None
    assert found["a"] is not None
    assert found["a"].state == "finished"


def test_the_farm_counts_without_cleaning_up(kiln: Kiln) -> None:
    kiln.submit(prompt="x", model="demo")
    kiln.redis.zadd(f"rq:wip:{LANE}", {"dead:execution": 1})  # expired: RQ's own count would fail that job
    kiln.redis.zadd(f"rq:finished:{LANE}", {"b": 1e12})
    lanes = kiln.farm().lanes
    assert lanes == (LaneStatus(LANE, queued=1, started=1, finished=1, failed=0),)
    assert kiln.redis.zcard(f"rq:wip:{LANE}") == 1


def test_a_malformed_farm_is_shown_as_well_as_may_be(kiln: Kiln) -> None:
    kiln.redis.sadd("rq:queues", b"rq:queue:kiln:\xff", "rq:queue:other", "nonsense", f"rq:queue:{LANE}")
    kiln.redis.set(f"rq:queue:{LANE}", "text")
    kiln.redis.sadd("rq:workers", b"rq:worker:\xff", "rq:worker:gone", "rq:worker:text")
    kiln.redis.set("rq:worker:text", "text")
    kiln.redis.hset(b"rq:worker:\xff", mapping={"kiln_state": b"\xff"})
    farm = read_farm(kiln.redis)
    assert [lane.lane for lane in farm.lanes] == [LANE, "kiln:\ufffd"]
    assert farm.lanes[0].queued == 0
    json.dumps(farm.as_dict())


def test_escape_sequences_do_not_come_through(kiln: Kiln) -> None:
    bad, shown = "a\x1b[2J\x7f\x9bb", "a\ufffd[2J\ufffd\ufffdb"
    put(kiln, status="failed", origin=f"kiln:{bad}", worker_name=bad, ended_at=bad)
    packed = base64.b64encode(zlib.compress(f"first\n{bad}".encode())).decode()
    value = {"png": bad, "sidecar": bad, "sha256": bad}
    result(kiln, type="2", exc_string=packed, return_value=encoded(value))
    found = kiln.status("a")
    assert (found.lane, found.worker, found.ended_at) == (f"kiln:{shown}", shown, shown)
    assert found.error == shown
    assert found.as_dict()["result"] == dict.fromkeys(value, shown)
    kiln.redis.sadd("rq:queues", f"rq:queue:kiln:{bad}")
    kiln.redis.rpush(f"rq:queue:kiln:{bad}", "x")
    kiln.redis.sadd("rq:workers", f"rq:worker:{bad}")
    kiln.redis.hset(f"rq:worker:{bad}", "hostname", bad)
    farm = kiln.farm()
    assert [(lane.lane, lane.queued) for lane in farm.lanes] == [(f"kiln:{shown}", 1)]
    assert [(worker.name, worker.host) for worker in farm.workers] == [(shown, shown)]


def test_an_error_that_inflates_without_end_is_cut(kiln: Kiln) -> None:
    put(kiln, status="failed")
    bomb = b"x\n" * (MAX_ERROR // 2 - 1) + b"y" * 50_000_000
    result(kiln, type="2", exc_string=base64.b64encode(zlib.compress(bomb)).decode())
    assert kiln.status("a").error == "yy"


BYTES = st.binary(max_size=12) | st.sampled_from(
    [b"started", b"finished", b"{}", b"1", b'{"phase": "loading"}']
)
KEYS = st.sampled_from(["status", "meta", "origin", "kiln_attempts", "worker_name", "ended_at", "data"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(KEYS, BYTES, min_size=1),
    st.dictionaries(st.sampled_from(["type", "return_value", "exc_string"]), BYTES, min_size=1),
)
def test_any_record_has_a_status(kiln: Kiln, record: dict[str, bytes], outcome: dict[str, bytes]) -> None:
    kiln.redis.delete("rq:job:a", "rq:results:a")
    kiln.redis.hset("rq:job:a", mapping=record)  # type: ignore[arg-type]
    kiln.redis.xadd("rq:results:a", outcome)  # type: ignore[arg-type]
    shown = json.loads(json.dumps(kiln.status("a").as_dict()))
    assert shown["id"] == "a"
    assert shown["state"] in {"queued", "started", "finished", "failed", "cancelled"}
