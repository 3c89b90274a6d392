"""Batches that shall be ready by a time: looked at while nobody asks, and told where that will not hold.

One worker does it for all, about once a minute, of so many batches and jobs at most: those that were not
looked at for longest. What it foresees lies in the batch's hash, beside the manifest, for whoever reads it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.batches.forecast import Outlook
from pixelkiln.jobs.batches.manifest import Manifest
from pixelkiln.jobs.batches.outlook import deadline_of, outlook, warned
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.farm import Farm, read_workers
from pixelkiln.jobs.queue.places import read_standing, standing_script

log = logging.getLogger("kiln.deadlines")

EVERY = 50.0  # seconds from one look at a batch to the next, at least
MOST = 20  # batches in one look
JOBS = 10_000  # of all of them; a batch of more is not followed
PACKED = 2 * 2**20  # bytes of a manifest that is read here; unpacked eight times as many
FORGOTTEN = (
    86_400.0  # seconds after which Redis may have forgotten what has finished: KILN_RESULT_DAYS, at least
)
NEEDED = ("model", "quantization", "width", "height", "steps")  # of a spec


class Deadlines:
    """The batches with a deadline. `look` raises redis.RedisError where the server is away."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection
        self._standing = standing_script(connection)
        self._kept: dict[bytes, tuple[bytes, Manifest]] = {}  # with their revisions, the last used last

    def look(self, now: float) -> None:
        """Look at those whose turn it is, by Redis's clock: seconds since 1970."""
        try:
            due = self._due(now)
            farm = Farm(workers=read_workers(self._connection)) if due else Farm()
        except redis.ResponseError:  # a stranger's key of another type
            if self._connection.type(keys.DEADLINES) not in (b"zset", b"none"):
                self._connection.unlink(keys.DEADLINES)
            return
        left = JOBS
        for member, turn in due:
            try:
                left -= self._look_at(member, farm, now, left, known=turn > 0)
            except (redis.ConnectionError, redis.TimeoutError):
                raise
            except redis.WatchError:  # its client changed it just now
                continue
            except Exception as error:  # whatever lies there is no batch of ours
                log.warning("batch %s: its deadline is not followed: %s", _shown(member), error)
                self._connection.zrem(keys.DEADLINES, member)

    def _due(self, now: float) -> list[tuple[bytes, float]]:
        """Names of batches, and when each was to be looked at; 0 at first."""
        found: Any = self._connection.zrangebyscore(keys.DEADLINES, "-inf", now, 0, MOST, withscores=True)
        if not found:  # beyond this none is put: the server's clock was set back
            after = now + 2 * EVERY
            found = self._connection.zrangebyscore(keys.DEADLINES, after, "+inf", 0, MOST, withscores=True)
        return list(found)

    def _look_at(self, member: bytes, farm: Farm, now: float, left: int, *, known: bool) -> int:
        """Look at one; how many jobs it has. One that has more than are `left` keeps its turn."""
        client, _, name = member.partition(b":")
        key = keys.BATCH(client, name)
        with self._connection.pipeline() as pipe:
            pipe.watch(key)  # type: ignore[no-untyped-call]
            manifest = self._manifest(pipe, key)
            deadline = None if manifest is None else deadline_of(manifest.options)
            if manifest is None or deadline is None:  # its name comes first; later, it is a batch no more
                self._turn(pipe, member, now, last=known)
                pipe.execute()
                return 0
            jobs = len(manifest.entries)
            if jobs > JOBS:
                raise ValueError(f"it has more than {JOBS:,} pictures")
            if jobs > left:
                return 0
            standing = read_standing(self._standing, manifest.ids)
            if _old(manifest, now):
                standing = {one: stands for one, stands in standing.items() if stands is not None}
            found = outlook(manifest, standing, farm, _speeds(farm), datetime.fromtimestamp(now, UTC))
            assert found is not None
            told: Any = pipe.hmget(key, "deadline", "warned")
            before = told == [found.deadline.encode(), b"1"]
            over, late = now >= deadline.at.timestamp(), warned(found.fits, before)
            self._turn(pipe, member, now, last=over)
            pipe.hset(key, mapping=_fields(found, late, now))
            if news := found.fits is False if over else late != before:
                about = {"client": _shown(client), "batch": _shown(name), **found.as_dict(), "over": over}
                pipe.publish(keys.EVENTS, json.dumps({"event": "deadline", **about}))
            pipe.execute()
        if news:
            level = logging.WARNING if late else logging.INFO
            log.log(level, "batch %s: %s", _shown(member), plain(found.told))
        return jobs

    def _manifest(self, pipe: Any, key: bytes) -> Manifest | None:
        """What of a manifest is needed here; kept while its revision is the same."""
        revision = pipe.hget(key, "revision")
        if revision is None:
            return None
        kept = self._kept.pop(key, None)
        if kept is None or kept[0] != revision:
            if pipe.hstrlen(key, "manifest") > PACKED:
                raise ValueError("its manifest is too long")
            found = Manifest.unpacked(pipe.hget(key, "manifest") or b"", _shown(key), 8 * PACKED)
            few = ({name: entry.fields.get(name) for name in NEEDED} for entry in found.entries)
            entries = (
                replace(entry, fields=fields) for entry, fields in zip(found.entries, few, strict=True)
            )
            kept = revision, replace(found, entries=tuple(entries))
        self._kept[key] = kept
        while sum(len(one.entries) for _, one in self._kept.values()) > JOBS:
            self._kept.pop(next(iter(self._kept)))
        return kept[1]

    def _turn(self, pipe: Any, member: bytes, now: float, *, last: bool) -> None:
        """Begin the transaction: by when it is looked at again; the `last` time it is struck off."""
        pipe.multi()
        if last:
            pipe.zrem(keys.DEADLINES, member)
        else:
            pipe.zadd(keys.DEADLINES, {member: now + EVERY}, xx=True)


def _old(manifest: Manifest, now: float) -> bool:
    """Whether jobs that Redis knows no more may have finished; of a younger batch they were never sent."""
    try:
        return now - datetime.fromisoformat(manifest.created).timestamp() > FORGOTTEN
    except ValueError:
        return True


def _fields(found: Outlook, late: bool, now: float) -> dict[Any, Any]:
    """What a batch's hash tells of its deadline: docs/batches.md says what each is."""
    fits = {True: "yes", False: "no", None: "unknown"}[found.fits]
    seconds = "" if found.late is None else f"{found.late:.0f}"
    about = {"deadline": found.deadline, "fits": fits, "late": seconds, "outlook": found.told}
    return about | {"warned": "1" if late else "", "looked": f"{now:.0f}"}


def _speeds(farm: Farm) -> dict[str, dict[str, float]]:
    """Work in a second, by kind and worker, as workers tell it."""
    found: dict[str, dict[str, float]] = {}
    for worker in farm.workers:
        for kind, speed in worker.speeds.items():
            found.setdefault(kind, {})[worker.name] = speed
    return found


def _shown(name: bytes) -> str:
    return plain(name.decode("utf-8", "replace"))
