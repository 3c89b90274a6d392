"""The account of every job at the end: what should be there once is there once, and nothing else is left."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import redis
from pydantic import ValidationError

from pixelkiln.jobs import keys
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.sidecar import Sidecar
from tests.chaos.crew import Worker

# "failed: used": under the id of a picture that was stored before. "anything": RQ's tools were used on it.
Expected = Literal["finished", "failed", "failed: used", "cancelled or finished", "anything"]
QUARANTINE = "quarantined"


def account(
    kiln: Kiln,
    expected: Mapping[str, Expected],
    clients: Mapping[str, str],
    strikes: Mapping[str, int] | None = None,
    specs: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Every violation found among the jobs of `expected`, in words.

    clients: whose job each is. strikes: how often a worker was struck down or frozen while it had the job;
    two of these make a quarantine right. specs: what was asked, and the picture stored shows.
    """
    statuses = kiln.statuses(list(expected))
    found = []
    objects = Counter(list_keys(kiln))
    allowed: set[str] = set()
    for job_id, wanted in expected.items():
        status = statuses[job_id]
        pair = {keys.PICTURE(clients[job_id], job_id), keys.SIDECAR(clients[job_id], job_id)}
        wrong = []
        if wanted != "anything" or (status is not None and not status.ended):
            wrong += _end(kiln.redis, job_id, status, wanted, (strikes or {}).get(job_id, 0))
        if status is not None and status.state == "finished":
            wrong += _result(status, pair)
        if (status is not None and status.state == "finished") or wanted == "failed: used":
            digest = status.result.sha256 if status is not None and status.result is not None else None
            wrong += _picture(kiln, clients[job_id], job_id, (specs or {}).get(job_id, {}), digest)
        if wanted != "failed":  # one that was blamed may have got as far as the bucket
            allowed |= pair
        found += [f"{job_id}: {one}" for one in wrong]
    found += [f"the bucket holds {key}, which is no job's" for key in objects if key not in allowed]
    return found


def halves(kiln: Kiln, clients: Mapping[str, str], unwanted: Collection[str]) -> list[str]:
    """Pictures that lie without a sidecar, and whatever lies there of jobs that `kiln cancel` ended."""
    objects = set(list_keys(kiln))
    found = []
    for job_id, client in clients.items():
        picture, sidecar = keys.PICTURE(client, job_id), keys.SIDECAR(client, job_id)
        if picture in objects and sidecar not in objects:
            found.append(f"{job_id}: its picture lies without a sidecar")
        elif sidecar in objects and job_id in unwanted:
            found.append(f"{job_id}: cancelled, and stored")
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


def _result(status: JobStatus, pair: set[str]) -> list[str]:
    result = status.result
    named = result is not None and {result.png, result.sidecar} == pair
    return [] if named else [f"its result names {result}"]


def _picture(kiln: Kiln, client: str, job_id: str, asked: Mapping[str, Any], told: str | None) -> list[str]:
    """What is wrong with the objects of a job that was stored; `told`: the checksum in its result."""
    body = kiln.bucket.get(keys.PICTURE(client, job_id))
    record = kiln.bucket.get(keys.SIDECAR(client, job_id))
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
    if told not in (None, sidecar.png.sha256):
        wrong.append("its result and its sidecar name different checksums")
    if sidecar.job.id != job_id:
        wrong.append(f"its sidecar is that of {sidecar.job.id}")
    shown = sidecar.spec.model_dump(mode="json")
    if differing := {name: shown.get(name) for name in asked if shown.get(name) != asked[name]}:
        wrong.append(f"the picture is of another spec: {differing}")
    return wrong


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
