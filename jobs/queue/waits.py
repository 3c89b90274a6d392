"""What a job waits for that is in no lane yet: a time, the end of others, a place beneath a limit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.plain import text

SHOWN = 3  # of the jobs that one waits for
MAX_IDS = 8 * 1024  # bytes of the list of them that are read


def read_waits(
    connection: redis.Redis, records: Mapping[str, Mapping[str, bytes | None]]
) -> dict[str, tuple[str, str]]:
    """Of those of the jobs that wait so `not_before` and `waits`, as JobStatus has them; in one round trip.

    A record is what Redis answered of `status`, `origin`, `dependency_ids` and `rate_limit_key`.
    """
    waiting = {one: fields for one, fields in records.items() if fields["status"] in _KINDS}
    if not waiting:
        return {}
    with connection.pipeline(transaction=False) as pipe:
        for job_id, fields in waiting.items():
            pipe.zscore(keys.SCHEDULED(fields["origin"] or b""), job_id)
            for parent in _parents(fields):
                pipe.hget(keys.JOB(parent), "status")
        answers = iter(pipe.execute(raise_on_error=False))
    found: dict[str, tuple[str, str]] = {}
    for job_id, fields in waiting.items():
        due = next(answers)
        parents = {parent: next(answers) for parent in _parents(fields)}
        if fields["status"] == b"scheduled":
            moment = _moment(due)
            found[job_id] = moment, "" if moment else "for a time that nobody knows: cancel it"
        elif fields["status"] == b"rate_limited":
            found[job_id] = "", f"for a place below the limit {text(fields['rate_limit_key'] or b'')}"
        elif parents:
            found[job_id] = "", _for_others(parents)
    return found


_KINDS = (b"scheduled", b"deferred", b"rate_limited")


def _for_others(parents: Mapping[str, Any]) -> str:
    words = []
    for parent, status in parents.items():
        if status in (b"failed", b"canceled", b"stopped"):
            ended = "cancelled" if status == b"canceled" else text(status)
            words.append(f"{parent}, which is {ended}: render that after all, or cancel this one")
        elif isinstance(status, bytes):
            words.append(parent)
        else:
            words.append(f"{parent}, which is not known any more: cancel this one")
    return f"for the end of {'; '.join(words)}"


def _parents(fields: Mapping[str, bytes | None]) -> list[str]:
    """The first jobs that a deferred one waits for; none where what lies there is no list of ids."""
    listed = fields["dependency_ids"] or b""
    if fields["status"] != b"deferred" or len(listed) > MAX_IDS:
        return []
    try:
        ids = json.loads(listed or b"[]")
    except (ValueError, RecursionError):
        return []
    sound = [one for one in ids if isinstance(one, str)] if isinstance(ids, list) else []
    return [text(one.encode("utf-8", "replace"))[:64] for one in sound[:SHOWN]]


def _moment(score: Any) -> str:
    try:
        return datetime.fromtimestamp(float(score), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
