"""What we lean on in RQ beyond its documentation: names, signatures and keys of the pinned version."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import pytest
import redis
from rq.executions import Execution, ExecutionRegistry
from rq.group import Group
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.queue import Queue
from rq.registry import (
    BaseRegistry,
    CanceledJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ReadyJobRegistry,
    StartedJobRegistry,
)
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker import Worker


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("rq") == "3.0.0"


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Job.__init__, ["id", "connection", "serializer"]),
        (Job.restore, ["raw_data"]),
        (Job.to_dict, ["include_meta", "include_result"]),
        (Job.perform, []),
        (Job.cancel, ["pipeline", "enqueue_dependents", "remove_from_dependencies"]),
        (Queue.move_dependents_to_ready, ["job", "pipeline", "exclude_job_id", "refresh_job_status"]),
        (Queue.enqueue_ready_jobs_by_queue, ["job_ids_by_queue_name"]),
        (ReadyJobRegistry.cleanup, ["timestamp", "exception_handlers"]),
        (BaseRegistry.add, ["job", "ttl", "pipeline", "xx"]),
        (Execution.__init__, ["id", "job_id", "connection", "worker_name"]),
        (Execution.delete, ["job", "pipeline"]),
        (
            Result.create,
            [
                "job",
                "type",
                "ttl",
                "return_value",
                "exc_string",
                "worker_name",
                "pipeline",
                "execution_id",
                "execution_started_at",
                "execution_ended_at",
            ],
        ),
        (
            Result.create_failure,
            [
                "job",
                "ttl",
                "exc_string",
                "worker_name",
                "pipeline",
                "execution_id",
                "execution_started_at",
                "execution_ended_at",
            ],
        ),
        (Result.restore, ["job_id", "result_id", "payload", "connection", "serializer"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signatures(function: Any, expected: list[str]) -> None:
    assert parameters(function) == expected


def test_keys() -> None:
    connection = redis.Redis()  # never connected
    queue = Queue("q", connection=connection, serializer=JSONSerializer)
    job = Job("j", connection=connection, serializer=JSONSerializer)
    execution = Execution("e", "j", connection, "w")
    assert queue.key == "rq:queue:q"
    assert Queue.redis_queues_keys == "rq:queues"
    assert IntermediateQueue.get_intermediate_queue_key("rq:queue:q") == "rq:queue:q:intermediate"
    assert job.key == "rq:job:j"
    assert job.dependents_key == "rq:job:j:dependents"
    assert job.dependencies_key == "rq:job::j:dependencies"  # two colons: RQ's own slip
    assert Result.get_key("j") == "rq:results:j"
    assert execution.composite_key == "j:e"
    assert execution.key == "rq:execution:j:e"
    assert execution.worker_executions_key == "rq:worker:w:executions"
    assert ExecutionRegistry("j", connection).key == "rq:executions:j"
    for registry, key in (
        (StartedJobRegistry, "rq:wip:q"),
        (FinishedJobRegistry, "rq:finished:q"),
        (FailedJobRegistry, "rq:failed:q"),
        (CanceledJobRegistry, "rq:canceled:q"),
        (ReadyJobRegistry, "rq:ready:q"),
    ):
        assert registry("q", connection).key == key
    assert Worker.redis_workers_keys == "rq:workers"
    assert Worker.redis_worker_namespace_prefix == "rq:worker:"
    assert Group.get_key("g") == "rq:group:g"
    assert Group.REDIS_GROUP_KEY == "rq:groups"


def test_the_fields_that_scripts_write_are_those_that_rq_reads() -> None:
    job = Job.create("f", connection=redis.Redis(), serializer=JSONSerializer)
    job.meta["a"] = 1
    written = set(job.to_dict())
    assert {
        "status",
        "data",
        "created_at",
        "started_at",
        "ended_at",
        "last_heartbeat",
        "worker_name",
    } <= written
    assert {"meta", "success_callback_name", "failure_callback_name", "stopped_callback_name"} <= written
    assert set(Execution("e", "j", redis.Redis(), "w").serialize()) == {
        "id",
        "job_id",
        "created_at",
        "last_heartbeat",
        "worker_name",
    }
    assert {one.name: one.value for one in Result.Type}["SUCCESSFUL"] == 1
    assert JSONSerializer.dumps(("f", None, [{"a": 1}], {})) == b'["f", null, [{"a": 1}], {}]'
