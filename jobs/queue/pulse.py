"""The farm in the few numbers that are watched: how long jobs have waited, what workers foresee and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.plain import count

LANES = 100  # in one round trip
BATCHES = 1000  # that are looked at
OUTCOMES = ("told", "failed", "dropped")  # of webhooks


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is not in Farm. None: this user may not read it."""

    waiting: dict[str, tuple[int, float]] = field(default_factory=dict)  # by lane: jobs, the first's seconds
    due: int | None = 0  # batches whose deadline workers follow
    late: int | None = 0  # of these, those that will not be ready by then
    webhooks: dict[str, int] | None = field(default_factory=dict)  # by OUTCOMES, how often


def read_pulse(connection: redis.Redis, lanes: Sequence[str]) -> Pulse:
    """How these lanes and the farm do; whatever strangers wrote there counts as nothing."""
    waiting: dict[str, tuple[int, float]] = {}
    for start in range(0, len(lanes), LANES):
        waiting |= _waiting(connection, lanes[start : start + LANES])
    due, late = _deadlines(connection)
    return Pulse(waiting, due, late, _webhooks(connection))


def _waiting(connection: redis.Redis, lanes: Sequence[str]) -> dict[str, tuple[int, float]]:
    """Those that can be taken now: who waits for a time, or is held, is in no list."""
    with connection.pipeline(transaction=False) as pipe:
        pipe.time()
        for lane in lanes:
            pipe.llen(keys.QUEUE(lane))
            pipe.lrange(keys.QUEUE(lane), 0, 0)
        (seconds, _), *answers = pipe.execute(raise_on_error=False)
        firsts = [ids[0] if isinstance(ids, list) and ids else b"" for ids in answers[1::2]]
        for job_id in firsts:
            pipe.hget(keys.JOB(job_id), "enqueued_at")
        since = pipe.execute(raise_on_error=False)
    ages = (_age(one, seconds) for one in since)
    lengths = (one if isinstance(one, int) else 0 for one in answers[::2])
    return {lane: (length, age) for lane, length, age in zip(lanes, lengths, ages, strict=True) if length}


def _age(since: Any, now: float) -> float:
    try:
        return max(0.0, now - datetime.fromisoformat(since.decode()).timestamp())
    except (AttributeError, ValueError, OverflowError):
        return 0.0


def _deadlines(connection: redis.Redis) -> tuple[int | None, int | None]:
    """How many batches have one, and how many of these will not be ready, as workers noted beside each."""
    try:
        members: Any = connection.zrange(keys.DEADLINES, 0, BATCHES - 1)
    except redis.ResponseError:
        return None, None
    with connection.pipeline(transaction=False) as pipe:
        for member in members:
            client, _, name = member.partition(b":")
            pipe.hget(keys.BATCH(client, name), "fits")
        return len(members), pipe.execute(raise_on_error=False).count(b"no")


def _webhooks(connection: redis.Redis) -> dict[str, int] | None:
    try:
        told: Any = connection.hgetall(keys.TELLING)
    except redis.ResponseError:
        return None
    found = Counter(dict.fromkeys(OUTCOMES, 0))
    for name, number in told.items():
        outcome = name.rpartition(b":")[2].decode("utf-8", "replace")
        if outcome in OUTCOMES:
            found[outcome] += count(number)
    return dict(found)
