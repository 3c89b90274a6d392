"""What a producer writes beside the spec: ids, lanes, RQ's records and registries, and ours."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any

from tests.hostile.farm import LANE, Forger, Touch, spec
from tests.hostile.forgeries.calls import CALLBACKS
from tests.hostile.forgeries.form import (
    BAD,
    BAD_LINE,
    DROPPED,
    ESCAPE,
    FINISHED,
    OTHER_LANE,
    STANDS,
    WAITS,
    Forgery,
    Form,
    beside,
    keys,
    lane,
    record,
    text,
    wants,
)


def depends(f: Forger, child: str, *parents: str, **fields: Any) -> None:
    """A deferred record that waits for others, as RQ writes it."""
    f.redis.hset(
        f"rq:job:{child}",
        mapping={
            "status": "deferred",
            "origin": LANE,
            "data": BAD,
            "created_at": "2026-01-01T00:00:00.000000Z",
            "dependency_ids": json.dumps(parents),
            "allow_dependency_failures": "1",
            **fields,
        },
    )
    for parent in parents:
        f.redis.sadd(f"rq:job:{parent}:dependents", child)
        f.redis.sadd(f"rq:job:{child}:dependencies", parent)


def cycle(f: Forger, i: str) -> None:
    depends(f, i, f"{i}-b")
    depends(f, f"{i}-b", i, data=spec())
    f.put(i)


def itself(f: Forger, i: str) -> None:
    depends(f, i, i)
    f.put(i)


def dependents(write: Forgery) -> Form:
    """An honest job waits for one that fails, and something hostile beside it."""

    def forge(f: Forger, i: str) -> None:
        depends(f, f"{i}-good", i)
        write(f, i)
        f.put(i, BAD)

    return Form(forge, BAD_LINE, also=(("-good", BAD_LINE),))


def dependent(**fields: Any) -> Form:
    return dependents(lambda f, i: depends(f, f"{i}-evil", i, **fields))


def owned(f: Forger, i: str, execution: str, lane: str = LANE, **fields: Any) -> None:
    """A job that somebody holds, by all the keys that say so; the lease ran out long ago."""
    f.redis.hset(f"rq:job:{i}", mapping={"status": "started", "origin": LANE, "data": BAD, **fields})
    f.redis.set(f"kiln:own:{i}", execution)
    about = {"id": execution, "job_id": i, "lane": lane, "worker_name": ESCAPE}
    f.redis.hset(f"rq:execution:{i}:{execution}", mapping=about)
    f.redis.zadd("kiln:leases", {f"{i}:{execution}": 1})


def forged_result(f: Forger, i: str, **fields: Any) -> None:
    value = base64.b64encode(json.dumps({"png": "../x", "sidecar": "/etc/passwd", "sha256": ESCAPE}).encode())
    f.result(i, type="1", return_value=value, **fields)


RECORDS: dict[str, dict[str, Form]] = {
    "ids that are none": {
        name: Form(lambda f, i: f.put(i, BAD), DROPPED, job_id)
        for name, job_id in {
            "up": "../../up",
            "a folder": "a/b",
            "absolute": "/etc/passwd",
            "dots": "..",
            "another key": "x:dependents",
            "an escape": ESCAPE,
            "a NUL": "a\0b",
            "a newline": "a\n",
            "spaces": " ",
            "empty": "",
            "an option": "-rf",
            "a format": "%s%n{0.__class__}",
            "long": "x" * 65,
            "very long": "y" * 2_000_000,
            "letters of another script": "ａｂｃ",
        }.items()
    },
    "lanes that are none": {
        "of too few parts": lane("kiln:demo:bf16:normal", WAITS),
        "of too many": lane("kiln:demo:bf16:normal:a:b", WAITS),
        "of no worker's model": lane("kiln:other:bf16:normal:a", WAITS),
        "of empty parts": lane("kiln:demo:bf16::default", WAITS),
        "of another application": lane("default", WAITS),
        "not UTF-8": lane(b"kiln:demo:bf16:normal:\xff\xfe", OTHER_LANE),
        "of markup": lane("kiln:demo:bf16:low:[/red][link=x]", OTHER_LANE),
        "of an unheard of priority": lane("kiln:demo:bf16:highest:default", OTHER_LANE),
    },
    "another's lane": {
        "priority": lane("kiln:demo:bf16:high:default", OTHER_LANE),
        "client": lane("kiln:demo:bf16:normal:victim", OTHER_LANE),
        "client, spec says the victim": wants(OTHER_LANE, client="victim"),
        "model": wants(OTHER_LANE, model="hidream-o1-dev"),
        "quantization": wants(OTHER_LANE, quantization="q8"),
    },
    "reused ids": {
        "twice in a lane": Form(lambda f, i: f.put(i, queued=2), FINISHED),
        "a hundred times": Form(lambda f, i: f.put(i, queued=100), FINISHED),
        "in two lanes": Form(lambda f, i: (f.push(i, "kiln:demo:bf16:high:mallory"), f.put(i)), FINISHED),
        "of a job that failed": Form(lambda f, i: (f.put(i, status="failed"),), STANDS),
    },
    "dependencies": {
        "on itself": Form(itself, FINISHED),
        "in a circle": Form(cycle, FINISHED, also=(("-b", FINISHED),)),
        "on what is not there": record(dependency_ids=json.dumps(["gone"]), dependency_id="gone"),
        "no list": record(dependency_ids="{}", allow_dependency_failures="x"),
        "a dependent of bad times": dependent(created_at="never"),
        "a dependent of no status": dependent(status="on fire"),
        "a dependent of no lane": dependent(origin=ESCAPE),
        "a dependent that is a bomb": dependent(data=zlib.compress(b"x" * 20_000_000)),
        "a dependent with callbacks": dependent(**CALLBACKS, timeout="x", webhooks="[{}]"),
        "a dependent of bad ids": dependent(dependency_ids="[" * 9999),
        "dependents no set": beside(lambda f, i: f.redis.set(f"rq:job:{i}:dependents", "x")),
        "dependents that are garbage": dependents(
            lambda f, i: f.redis.sadd(f"rq:job:{i}:dependents", "gone", b"\xff\xfe", ESCAPE, "../up", "")
        ),
        "dependents of other types": dependents(
            lambda f, i: (f.redis.set(f"rq:job:{i}-s", "x"), f.redis.sadd(f"rq:job:{i}:dependents", f"{i}-s"))
        ),
        "a registry of the ready, no set": dependents(lambda f, i: text(f, i, f"rq:ready:{LANE}")),
        "of another queue, that is none": dependents(
            lambda f, i: (depends(f, f"{i}-c", i, origin=f"q-{i}"), f.redis.set(f"rq:ready:q-{i}", "text"))
        ),
    },
    "times and counts": {
        "negative": record(**dict.fromkeys(("timeout", "result_ttl", "failure_ttl", "ttl"), "-5")),
        "huge": record(
            BAD_LINE, data=BAD, **dict.fromkeys(("timeout", "result_ttl", "failure_ttl", "ttl"), "9" * 30)
        ),
        "NaN": record(
            BAD_LINE, data=BAD, **dict.fromkeys(("timeout", "result_ttl", "failure_ttl", "ttl"), "nan")
        ),
        "retries": record(
            BAD_LINE, data=BAD, retries_left="1000000", retry_intervals="[0]", number_of_retries="-1"
        ),
        "repeats": record(repeats_left="1000000", repeat_intervals="[0]"),
        "rate limits": record(rate_limit_key="x", rate_limit_concurrency="0"),
        "submitted before time": record(enqueued_at="0001-01-01T00:00:00.000000+14:00"),
        "submitted after time": record(enqueued_at="9999-12-31T23:59:59.999999-14:00"),
        "submitted nowhen": record(
            BAD_LINE, data=BAD, enqueued_at=b"\xff" * 60, created_at="x", started_at="x"
        ),
        "crashes": record(BAD_LINE, data=BAD, kiln_crashes="1e308", kiln_attempts="-inf", kiln_lapses="nan"),
        "a record that expires": Form(
            lambda f, i: (f.put(i, BAD), f.redis.expire(f"rq:job:{i}", 3600)), BAD_LINE
        ),
    },
    "statuses": {
        "started, by nobody": record(BAD_LINE, data=BAD, status="started", worker_name="ghost"),
        "of no kind": record(BAD_LINE, data=BAD, status="on fire"),
        "binary": record(BAD_LINE, data=BAD, status=b"\xff\x00"),
        "empty": record(BAD_LINE, data=BAD, status=""),
        "huge": record(BAD_LINE, data=BAD, status="queued" * 100_000),
        "finished": record(STANDS, status="finished", ended_at="x"),
        "cancelled": record(STANDS, status="canceled"),
        "finished, with a result": Form(
            lambda f, i: (forged_result(f, i), f.put(i, status="finished")), STANDS
        ),
    },
    "records of other types": {
        "none": Form(lambda f, i: f.push(i), DROPPED),
        "a string": Form(lambda f, i: (f.redis.set(f"rq:job:{i}", spec()), f.push(i)), DROPPED),
        "a list": Form(lambda f, i: (f.redis.rpush(f"rq:job:{i}", "queued"), f.push(i)), DROPPED),
        "a set": Form(lambda f, i: (f.redis.sadd(f"rq:job:{i}", "queued"), f.push(i)), DROPPED),
        "a stream": Form(
            lambda f, i: (f.redis.xadd(f"rq:job:{i}", {"status": "queued"}), f.push(i)), DROPPED
        ),
        "a sorted set": Form(lambda f, i: (f.redis.zadd(f"rq:job:{i}", {"queued": 1}), f.push(i)), DROPPED),
    },
    "registries of other types": {
        **keys(text, "rq:executions:{i}", "rq:job:{i}:dependencies", "rq:job:{i}:dependents", body=BAD),
        **keys(text, f"rq:ready:{LANE}", f"rq:deferred:{LANE}", f"rq:canceled:{LANE}", body=BAD),
        **keys(
            text,
            f"rq:scheduled:{LANE}",
            f"rq:queue:{LANE}:intermediate",
            f"rq:clean_registries:{LANE}",
            body=BAD,
        ),
    },
    "forged results": {
        "of success": beside(forged_result, BAD_LINE, BAD),
        "of another execution": beside(lambda f, i: forged_result(f, i, execution_id="x"), BAD_LINE, BAD),
        "from the future": beside(lambda f, i: f.result(i, "9999999999999-0", type="1"), BAD_LINE, BAD),
        "from the end of time": beside(
            lambda f, i: f.result(i, f"{2**64 - 1}-{2**64 - 1}", type="2"), BAD_LINE, BAD
        ),
        "a string": beside(lambda f, i: f.redis.set(f"rq:results:{i}", "text"), BAD_LINE, BAD),
        "a list, of a sound job": beside(lambda f, i: f.redis.rpush(f"rq:results:{i}", "text")),
    },
    "forged ownership": {
        "of a queued job": beside(lambda f, i: f.redis.set(f"kiln:own:{i}", "ghost"), BAD_LINE, BAD),
        "a list": beside(lambda f, i: f.redis.rpush(f"kiln:own:{i}", "ghost"), BAD_LINE, BAD),
        "with a lease that ran out": Form(lambda f, i: owned(f, i, "ghost"), BAD_LINE),
        "of a lane that is none": Form(lambda f, i: owned(f, i, "ghost", ESCAPE), WAITS),
        "without a lease": Form(
            lambda f, i: (owned(f, i, "ghost"), f.redis.zrem("kiln:leases", f"{i}:ghost"), f.push(i)), STANDS
        ),
        "an execution of another type": beside(
            lambda f, i: (
                f.redis.set(f"rq:execution:{i}:ghost", "x"),
                f.redis.zadd("kiln:leases", {f"{i}:ghost": 1}),
            ),
            BAD_LINE,
            BAD,
        ),
        "a lease without a colon": beside(lambda f, i: f.redis.zadd("kiln:leases", {i: 1}), BAD_LINE, BAD),
    },
    "groups": {
        "of a name that is none": record(group_id=ESCAPE),
        "of another type": beside(
            lambda f, i: (f.redis.set(f"rq:group:{i}", "x"), f.redis.set("rq:groups", "x"))
        ),
        "pickled": Form(lambda f, i: f.put(i, BAD, group_id=pickle.dumps(Touch(f.traps.mark))), BAD_LINE),
    },
}
