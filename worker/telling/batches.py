"""Which batches have ended: asked of their jobs, and of few of them.

A counter of open jobs would be wrong after the first that an older worker, or RQ's own tools, end. So a batch
is known by one job that has not ended, its witness: while that is so nothing else is looked at, and then the
look goes on behind it. Of n jobs in any order about n are looked at, and once more all, at the end.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.batches.manifest import Manifest
from pixelkiln.jobs.errors import CorruptObjectError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.plain import count
from pixelkiln.jobs.queue.door import chunks
from pixelkiln.jobs.queue.places import MANY, read_standing, standing_script
from pixelkiln.jobs.queue.queue import Standing
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.queue.status import ENDED
from pixelkiln.worker.telling.events import Settled

MOST = 200  # batches that are known at once
LARGEST = 200_000  # jobs of one


@dataclass(slots=True)
class _Known:
    """A batch that has not ended, as it was last seen."""

    revision: int | None = None  # of its manifest
    ids: list[str] = field(default_factory=list)  # in no order: jobs end in some
    at: int = 0  # the witness among them


class Batches:
    """The batches of ended jobs, for one worker that tells. Raises redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection
        self._states = standing_script(connection)
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    @property
    def open(self) -> list[tuple[str, str]]:
        """Client and name of those that had not ended when they were looked at."""
        return list(self._known)

    def look(self, client: str, name: str) -> Settled | None:
        """The batch where it has ended and this end was not told, else None.

        One that is not sent to its last row has not ended; a job that Redis has forgotten has.
        """
        known = self._known.setdefault((client, name), _Known())
        self._known.move_to_end((client, name))
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        self._read(client, name, known)
        found: dict[str, Standing | None] = {}
        order = known.ids[known.at :] + known.ids[: known.at]
        sent: set[str] | None = None
        for some in (order[:1], *chunks(order[1:], MANY)):
            for job_id, one in read_standing(self._states, some).items():
                if one is None:
                    sent = self._members(name) if sent is None else sent
                if one.state not in ENDED if one is not None else job_id not in (sent or ()):
                    known.at = (known.at + len(found)) % len(known.ids)
                    return None
                found[job_id] = one
        del self._known[client, name]
        settled = Settled(client, name, found)
        told = self._connection.get(keys.TOLD(client, name)) if found else b""
        return settled if found and told != settled.end.encode() else None

    def _read(self, client: str, name: str, known: _Known) -> None:
        """Bring the ids up to date: by the manifest, or, where there is none, by RQ's group."""
        key = keys.BATCH(client, name)
        try:
            revision = self._connection.hget(key, "revision")
            if revision is None:
                ids, known.revision = self._of_client(client, self._members(name)), None
            elif known.revision == count(revision):
                return
            else:
                body: Any = self._connection.hget(key, "manifest")
                ids, known.revision = Manifest.unpacked(body or b"", key).ids, count(revision)
        except (redis.ResponseError, CorruptObjectError):  # whatever a stranger wrote
            ids, known.revision = [], None
        if set(ids) != set(known.ids):
            known.ids, known.at = random.sample(ids, len(ids)), 0

    def _members(self, name: str) -> set[str]:
        """The jobs that RQ's group has, which are those that were sent."""
        key = keys.GROUP(name)
        try:
            if self._connection.scard(key) > LARGEST:
                return set()
            members: Any = self._connection.smembers(key)
        except redis.ResponseError:
            return set()
        texts = (one.decode("utf-8", "replace") for one in members)
        return {one for one in texts if JOB_ID.fullmatch(one)}

    def _of_client(self, client: str, job_ids: set[str]) -> list[str]:
        """Those of a client: names of groups are everybody's."""
        ids = sorted(job_ids)
        with self._connection.pipeline(transaction=False) as pipe:
            for one in ids:
                pipe.hget(keys.JOB(one), "origin")
            origins = pipe.execute(raise_on_error=False)
        lanes = (Lane.parse(one) if isinstance(one, bytes) else None for one in origins)
        return [one for one, lane in zip(ids, lanes, strict=True) if lane and lane.client == client]
