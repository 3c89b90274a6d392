"""What tests of claims share: names, and looks at what Redis holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.queue.claims import Claims
from tests.wire import Proxy

Submit = Callable[..., str]
Make = Callable[..., Claims]
Rewire = Callable[..., tuple[Settings, Proxy]]

DEMO = ["demo:bf16"]
LANE = "kiln:demo:bf16:normal:default"
RESULT = {"png": "p", "sidecar": "s", "sha256": "0"}


def taken(claims: Claims, *served: str, resident: Sequence[str] = ()) -> str | None:
    claim = claims.take(list(served) or DEMO, resident)
    return claim.job_id if claim else None


def took(claims: Claims) -> Claim:
    claim = claims.take(DEMO)
    assert claim is not None
    return claim


def expire(kiln: Kiln, claim: Claim) -> None:
    kiln.redis.zadd("kiln:leases", {f"{claim.job_id}:{claim.execution}": 1})


def charged(kiln: Kiln, client: str = "default") -> float:
    return float(kiln.redis.hget(keys.CLOCKS, client) or 0)


def traces(kiln: Kiln, claim: Claim) -> list[str]:
    """Keys that still speak of a claim."""
    member = f"{claim.job_id}:{claim.execution}"
    named = {keys.OWNER(claim.job_id), f"rq:execution:{member}", f"kiln:taken:{claim.execution}"}
    named.add(keys.ACCOUNT(claim.job_id, claim.execution))
    found = []
    for key in sorted(item.decode() for item in kiln.redis.keys("*")):
        kind = kiln.redis.type(key)
        members: Any = kiln.redis.zrange(key, 0, -1) if kind == b"zset" else set()
        members = kiln.redis.smembers(key) if kind == b"set" else members
        if key in named or {member.encode(), claim.execution.encode()} & set(members):
            found.append(key)
    return found


def ends(kiln: Kiln, job_id: str, lane: str = LANE) -> list[str]:
    """Everywhere the job stands as ended or waiting: one place, in a sound farm."""
    found = [f"result {i}" for i in range(kiln.redis.xlen(f"rq:results:{job_id}"))]
    for registry in ("finished", "failed", "canceled", "wip"):
        members = [
            item.decode().partition(":")[0] for item in kiln.redis.zrange(f"rq:{registry}:{lane}", 0, -1)
        ]
        found += [registry] * members.count(job_id)
    queued = [item.decode() for item in kiln.redis.lrange(f"rq:queue:{lane}", 0, -1)]
    return found + ["queued"] * queued.count(job_id)


def poison(kiln: Kiln, job_id: str | bytes, record: Any = None, lane: str | bytes = LANE) -> None:
    """Put an id at the head of a lane, with a record of any type."""
    key = b"rq:job:" + (job_id if isinstance(job_id, bytes) else job_id.encode())
    if isinstance(record, dict):
        kiln.redis.hset(key, mapping=record)
    elif isinstance(record, list):
        kiln.redis.rpush(key, *record)
    elif record is not None:
        kiln.redis.set(key, record)
    name = b"rq:queue:" + (lane if isinstance(lane, bytes) else lane.encode())
    kiln.redis.sadd("rq:queues", name)
    kiln.redis.lpush(name, job_id)
