"""What clients keep in Redis: manifests of batches by name, what was asked for by key. See Queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.plain import count, plain
from pixelkiln.jobs.queue.connection import explained
from pixelkiln.jobs.queue.door import Door

KEPT = (
    60 * 86_400
)  # seconds that Redis knows a batch after it was last asked for; the bucket knows it for good
ASKED = 7 * 86_400  # seconds that a key stands for what was asked for
FORESEEN = ("deadline", "fits", "late", "outlook")  # of a batch's hash, by workers
MOST_NAMES = 10_000  # of a client's batches that are listed


class Shelf(Door):
    """See Queue."""

    def manifest(self, client: str, name: str) -> tuple[int, bytes] | None:
        """Its revision, and the manifest as it was put here."""
        self._check()
        key = keys.BATCH(client, name)
        with explained(self._settings):
            self._become(key, b"hash")
            found: Any = self.connection.hmget(key, "revision", "manifest")
            if None in found:
                return None
            self.connection.expire(key, KEPT)
        return count(found[0]), found[1]

    def put_manifest(self, client: str, name: str, body: bytes, revision: int) -> bool:
        """Keep it as the one after `revision`. A call whose reply was lost may be made again."""
        self._check()
        key, names = keys.BATCH(client, name), keys.BATCHES(client)
        with explained(self._settings), self.connection.pipeline() as pipe:
            self._become(key, b"hash")
            self._become(names, b"zset")
            try:
                pipe.watch(key)  # type: ignore[no-untyped-call]
                found: Any = pipe.hmget(key, "revision", "manifest")
                there = 0 if None in found else count(found[0])
                if there != revision:
                    return there == revision + 1 and found[1] == body
                pipe.multi()
                pipe.hset(key, mapping={"revision": revision + 1, "manifest": body})
                pipe.expire(key, KEPT)
                pipe.zadd(names, {name: time.time()}, nx=True)
                pipe.execute()
            except redis.WatchError:
                return False
        return True

    def note(self, client: str, key: str, asked: str) -> str:
        """Whoever comes first says what it is. Without the right to (an older ACL file) nothing is kept."""
        self._check()
        name = keys.ASKED(client, key)
        with explained(self._settings):
            try:
                self._become(name, b"string")
                if self.connection.set(name, asked, nx=True, ex=ASKED):
                    return ""
                found: Any = self.connection.get(name)
            except redis.exceptions.NoPermissionError:
                return ""
        return (found or b"").decode("utf-8", "replace")

    def expect(self, client: str, name: str) -> None:
        """Let workers follow its deadline, from their next look on."""
        self._check()
        with explained(self._settings):
            self.connection.zadd(keys.DEADLINES, {f"{client}:{name}": 0})

    def batches(self, client: str) -> dict[str, int]:
        """Names, the newest first, and revisions; those that Redis has forgotten are listed no more."""
        self._check()
        with explained(self._settings):
            self._become(keys.BATCHES(client), b"zset")
            found: Any = self.connection.zrange(keys.BATCHES(client), -MOST_NAMES, -1)
            names = [name.decode("utf-8", "replace") for name in reversed(found)]
            with self.connection.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hget(keys.BATCH(client, name), "revision")
                there = dict(zip(names, pipe.execute(raise_on_error=False), strict=True))
            faults = [one for one in there.values() if isinstance(one, redis.RedisError)]
            if refused := [one for one in faults if not str(one).startswith("WRONGTYPE")]:
                raise refused[0]  # a key of another type `manifest` deletes
            if gone := [name for name in names if there[name] is None]:
                self.connection.zrem(keys.BATCHES(client), *gone)
        return {name: count(there[name]) for name in names if there[name] is not None}

    def foreseen(self, client: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """What their hashes say of it, of those that say anything."""
        self._check()
        with explained(self._settings), self.connection.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(keys.BATCH(client, name), *FORESEEN)
            answers = pipe.execute(raise_on_error=False)
        found = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, list) and None not in answer:
                values = (plain(one.decode("utf-8", "replace")) for one in answer)
                found[name] = dict(zip(FORESEEN, values, strict=True))
        return found

    def _become(self, key: str, kind: bytes) -> None:
        """Delete a stranger's key of another type: losing it beats stopping everyone who needs it."""
        if self.connection.type(key) not in (kind, b"none"):
            self.connection.unlink(key)
