"""A producer chooses data, never code: whatever a job's record names, nothing of it is imported or called."""

from __future__ import annotations

import json
import pickle
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, KilnError, RenderSpec, SpecError, UsageError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.record import FUNCTION, RenderJob, check_job_id, read_spec
from pixelkiln.jobs.spec import MAX_WIRE

SPEC = {"prompt": "a fox", "model": "demo"}
LANE = Lane("demo", "bf16", "normal", "default")
NOT_RQS = "spec: the job's data is not what RQ's JSONSerializer writes"


def packed(function: Any = FUNCTION, instance: Any = None, arguments: Any = None, named: Any = None) -> bytes:
    arguments = [SPEC] if arguments is None else arguments
    return json.dumps([function, instance, arguments, named or {}]).encode()


def refusal(data: bytes, lane: Lane = LANE) -> str:
    with pytest.raises(SpecError) as caught:
        read_spec(data, lane, "job-1")
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("wrap", [bytes, zlib.compress])
def test_reads_a_spec_plain_or_compressed(wrap: Any) -> None:
    spec = read_spec(wrap(packed()), LANE, "job-1")
    assert spec.prompt == "a fox"
    assert spec.seed == RenderSpec.parse(SPEC).with_seed("job-1").seed


def test_keeps_the_seed_given() -> None:
    assert read_spec(packed(arguments=[{**SPEC, "seed": 0}]), LANE, "job-1").seed == 0


@pytest.mark.parametrize(
    "function",
    ["os.system", "pixelkiln.render ", "worker.tasks.render ", "render", "", None, ["os.system"], 7, {}],
)
def test_refuses_every_other_function(function: Any) -> None:
    assert (
        refusal(packed(function=function)) == f"function: is {str(function)!r}; the only one is {FUNCTION!r}"
    )


@pytest.mark.parametrize(
    "arguments", [[], [SPEC, SPEC], ["a fox"], [None], [[SPEC]]], ids=["none", "two", "text", "null", "list"]
)
def test_refuses_other_arguments(arguments: Any) -> None:
    assert refusal(packed(arguments=arguments)) == "arguments: must be one object, the spec"


def test_refuses_named_arguments_and_instances() -> None:
    assert refusal(packed(named={"shell": True})) == "arguments: must be one object, the spec"
    assert refusal(packed(instance="subprocess.Popen")) == "arguments: must be one object, the spec"


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"null", b"\x78\x9c", b"\x00\xff", b'"text"', zlib.compress(b"{}")]
)
def test_refuses_what_rq_would_not_write(data: bytes) -> None:
    assert refusal(data) == NOT_RQS


@pytest.mark.parametrize(
    "data", [b"[]", b"[1,2,3]", b'["f",null,{},{}]', b'["f",null,"a",{}]', b"[[],[],1,1]"]
)
def test_refuses_other_shapes(data: bytes) -> None:
    assert refusal(data) == NOT_RQS


@pytest.mark.parametrize("data", [b"[", b"[" * 60_000, b"[\xff]", b'["a",null,[' + b"9" * 5000 + b"],{}]"])
def test_refuses_broken_json(data: bytes) -> None:
    assert refusal(data) == "spec: the job's data is not JSON; enqueue with RQ's JSONSerializer"


def test_refuses_a_spec_of_another_lane() -> None:
    told = refusal(packed(), lane=Lane("demo", "bf16", "high", "default"))
    assert told == f"lane: the job waited in 'kiln:demo:bf16:high:default', its spec belongs in '{LANE}'"


def test_says_the_same_line_as_submit() -> None:
    bad = {**SPEC, "width": 100}
    with pytest.raises(SpecError) as at_submit:
        RenderSpec.parse(bad)
    assert refusal(packed(arguments=[bad])) == str(at_submit.value)


def test_inflates_no_bomb() -> None:
    bomb = zlib.compress(b"[" * 50_000_000, 9)
    told = refusal(bomb)
    assert told == f"spec: is more than {MAX_WIRE:,} bytes"


def test_inflates_once_only() -> None:
    assert refusal(zlib.compress(zlib.compress(packed()))) == NOT_RQS


class Touch:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_unpickles_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "called"
    for data in (pickle.dumps(Touch(mark)), zlib.compress(pickle.dumps(("f", None, [Touch(mark)], {})))):
        assert refusal(data) == NOT_RQS
    assert not mark.exists()
    assert pickle.loads(pickle.dumps(Touch(mark))) is None  # the payload does work
    assert mark.exists()


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that leaves a file when it is imported or called."""
    name = "evil_module_of_a_test"
    mark = f"open({str(tmp_path / 'mark')!r}, 'a').close()"
    (tmp_path / f"{name}.py").write_text(f"{mark}\ndef run(*a, **k):\n    {mark}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_a_record_that_names_code_imports_and_calls_none(kiln: Kiln, evil: str, tmp_path: Path) -> None:
    record = {
        "status": "queued",
        "origin": LANE.name,
        "data": packed(function=f"{evil}.run"),
        "success_callback_name": f"{evil}.run",
        "failure_callback_name": f"{evil}.run",
        "stopped_callback_name": f"{evil}.run",
        "webhooks": json.dumps([{"url": "http://127.0.0.1:1/", "events": ["finished"]}]),
        "meta": pickle.dumps(Touch(tmp_path / "mark")),
        "result": pickle.dumps(Touch(tmp_path / "mark")),
        "exc_info": zlib.compress(b"x" * 1000),
        "retries_left": "3",
        "repeats_left": "3",
    }
    kiln.redis.hset("rq:job:job-1", mapping=record)
    job = RenderJob.fetch("job-1", connection=kiln.redis)
    assert job.success_callback is None
    assert job.failure_callback is None
    assert job.stopped_callback is None
    assert job.webhooks == []
    assert job.repeats_left is None
    for attempt in (lambda: job.func, job.perform):
        with pytest.raises(KilnError):
            attempt()
    assert not (tmp_path / "mark").exists()
    assert evil not in sys.modules
    foreign = Job.fetch("job-1", connection=kiln.redis, serializer=JSONSerializer)
    foreign.perform()  # RQ's own class does run it
    assert (tmp_path / "mark").exists()


def test_a_record_of_ours_is_a_job_to_plain_rq(kiln: Kiln) -> None:
    spec = RenderSpec.parse(SPEC).with_seed()
    job = RenderJob.of(spec, "job-1", kiln.redis, days=2, batch=None)
    job.save()
    seen = Job.fetch("job-1", connection=kiln.redis, serializer=JSONSerializer)
    assert seen.func_name == FUNCTION
    assert seen.args == [spec.wire()]
    assert seen.kwargs == {}
    assert seen.timeout == -1
    assert seen.result_ttl == 2 * 86_400
    assert seen.origin == LANE.name


def test_what_plain_rq_enqueues_is_read(kiln: Kiln) -> None:
    job = Queue(LANE.name, connection=kiln.redis, serializer=JSONSerializer).enqueue(FUNCTION, SPEC)
    data = kiln.redis.hget(f"rq:job:{job.id}", "data")
    assert isinstance(data, bytes)
    assert read_spec(data, LANE, job.id).prompt == "a fox"


@pytest.mark.parametrize("job_id", ["a", "A-b_9", "0" * 64, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"])
def test_job_ids(job_id: str) -> None:
    assert check_job_id(job_id) == job_id


@pytest.mark.parametrize("job_id", ["", "-a", "_a", "a" * 65, "a/b", "a:b", "a.b", "a\n", "ä", "..", None, 7])
def test_no_job_ids(job_id: Any) -> None:
    with pytest.raises(UsageError, match=r"^job id: must be 1 to 64 letters, digits, - and _"):
        check_job_id(job_id)
