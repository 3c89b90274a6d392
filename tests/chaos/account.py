"""The account of every job at the end: what should be there once is there once, and nothing else is left."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import redis
from pydantic import ValidationError

from pixelkiln.jobs import keys
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.sidecar import Sidecar
from tests.chaos.crew import Worker

Expected = Literal["finished", "failed", "cancelled or finished"]
QUARANTINE = "quarantined"


def account(
    kiln: Kiln,
    expected: Mapping[str, Expected],
    clients: Mapping[str, str],
    strikes: Mapping[str, int] | None = None,
) -> list[str]:
    """Every violation found among the jobs of `expected`, in words.

    clients: whose job each is. strikes: how often a worker was struck down or frozen while it had the job;
    two of these make a quarantine right.
    """
    statuses = kiln.statuses(list(expected))
    found = []
    objects = Counter(list_keys(kiln))
    allowed: set[str] = set()
    for job_id, wanted in expected.items():
        status = statuses[job_id]
        pair = {keys.PICTURE(clients[job_id], job_id), keys.SIDECAR(clients[job_id], job_id)}
        wrong = _end(kiln.redis, job_id, status, wanted, (strikes or {}).get(job_id, 0))
        if status is not None and status.state == "finished":
            wrong += _picture(kiln, job_id, status, pair)
        if wanted != "failed":  # one that was cancelled or blamed may have got as far as the bucket
            allowed |= pair
        found += [f"{job_id}: {one}" for one in wrong]
    found += [f"the bucket holds {key}, which is no job's" for key in objects if key not in allowed]
    return found


def leftovers(connection: redis.Redis, workers: Iterable[Worker]) -> list[str]:
    """What the farm should have forgotten once everything has ended and the workers have left."""
    found = []
    for key in sorted(_text(key) for key in connection.scan_iter(count=1000)):
        kind = _text(connection.type(key))
        if key.startswith(
            ("kiln:own:", "kiln:leases", "kiln:execution:", "rq:wip:", "rq:execution:", "rq:executions:")
        ):
            found.append(f"Redis still holds {key}")
        elif key.startswith("kiln:taken:") and connection.ttl(key) < 0:
            found.append(f"Redis holds {key} for good")
        elif key.startswith("rq:queue:") and kind == "list" and connection.llen(key):
            found.append(f"{key} still holds {connection.lrange(key, 0, 3)}")
        elif key.startswith("rq:worker:") and connection.ttl(key) < 0:
            found.append(f"Redis lists {key} for good")
    for worker in workers:
        if worker.waiting():
            found.append(f"the spool of {worker.slot} holds {worker.waiting()[:4]}")
        if worker.marks():
            found.append(f"the marker of {worker.slot} names {worker.marks()}")
    return found


def journals(workers: Sequence[Worker]) -> list[str]:
    """What the workers' own journals tell against them."""
    found = []
    ends: Counter[str] = Counter()
    for worker in workers:
        for event in worker.journal():
            if event["event"] == "render" and event["spooled"]:
                found.append(f"{worker.slot} rendered {event['job']} again while it lay in its spool")
            if event["event"] in {"finish", "fail"} and event["ours"]:
                ends[event["execution"]] += 1
    return found


def list_keys(kiln: Kiln) -> list[str]:
    """Every key under `jobs/`."""
    pages = kiln.bucket._client.get_paginator("list_objects_v2").paginate(
        Bucket=kiln.bucket.name, Prefix="jobs/"
    )
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def _end(
    connection: redis.Redis, job_id: str, status: JobStatus | None, wanted: Expected, strikes: int
) -> list[str]:
    """What is wrong with how a job ended."""
    if status is None:
        return ["lost: Redis does not know it"]
    if not status.ended:
        return [f"stuck: {status.state} {status.phase or ''} attempt {status.attempt} by {status.worker}"]
    wrong = []
    quarantined = status.state == "failed" and status.error.startswith(QUARANTINE)
    if quarantined and wanted != "failed":
        if strikes < 2:
            wrong.append(f"quarantined, though {strikes} workers were struck while they had it")
    elif status.state not in wanted:
        wrong.append(f"{status.state}, not {wanted}: {status.error}")
    if status.state == "failed" and not status.error:
        wrong.append("failed without a reason")
    results = connection.xlen(f"rq:results:{job_id}")
    # RQ's own cancel does not look whether the job has finished just now; ours does.
    if results not in ((0, 1) if status.state == "cancelled" else (1,)):
        wrong.append(f"{results} results")
    listed = [
        name
        for name in ("wip", "finished", "failed", "canceled", "deferred", "scheduled")
        if connection.zscore(f"rq:{name}:{status.lane}", job_id) is not None
    ]
    if listed != [{"cancelled": "canceled"}.get(status.state, status.state)]:
        wrong.append(f"{status.state}, but in the registries {listed}")
    return wrong


def _picture(kiln: Kiln, job_id: str, status: JobStatus, keys: set[str]) -> list[str]:
    """What is wrong with the objects of a finished job."""
    result = status.result
    if result is None or {result.png, result.sidecar} != keys:
        return [f"its result names {result}"]
    body, record = kiln.bucket.get(result.png), kiln.bucket.get(result.sidecar)
    if body is None or record is None:
        return [f"finished, but the bucket lacks its {'picture' if body is None else 'sidecar'}"]
    try:
        sidecar = Sidecar.model_validate_json(record)
    except ValidationError:
        return [f"its sidecar cannot be read: {json.dumps(record[:80].decode(errors='replace'))}"]
    wrong = []
    digest = hashlib.sha256(body).hexdigest()
    if sidecar.png.sha256 != digest:
        wrong.append(
            f"wrong checksum: its picture is {digest[:12]}, its sidecar says {sidecar.png.sha256[:12]}"
        )
    if result.sha256 != sidecar.png.sha256:
        wrong.append("its result and its sidecar name different checksums")
    if sidecar.job.id != job_id:
        wrong.append(f"its sidecar is that of {sidecar.job.id}")
    return wrong


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
