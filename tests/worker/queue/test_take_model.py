"""Jobs are taken in the order that a model in plain Python says, whatever is done in between, and by whom.

For longer than a test may: python -m tests.worker.queue.test_take_model [SEED [OPERATIONS [SEEDS]]]
"""

from __future__ import annotations

import random
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.jobs.queue.connection import connect
from pixelkiln.jobs.queue.scripts import HERE, Script
from pixelkiln.worker.queue import claims as module
from pixelkiln.worker.queue.claim import Claim, stamp
from pixelkiln.worker.queue.claims import Claims
from tests.worker.queue.model import UNBOUNDED, Ask, Lane, check

NOW = datetime.now(UTC).timestamp()


class Server:
    """A farm on a server, driven through the scripts alone."""

    def __init__(self, connection: redis.Redis) -> None:
        self.redis = connection
        self.stale = NOW
        self._claims = Claims(connection, "worker")
        self._submit = Script(connection, "submit", HERE / "submit.lua")
        self._cancel = Script(connection, "cancel", HERE / "cancel.lua")
        self._held: dict[str, Claim] = {}
        serves = "demo:bf16,demo:q6,big:bf16"
        connection.hset("rq:worker:large", mapping={"queues": serves, "kiln_memory": "100"})
        connection.sadd("rq:workers", "rq:worker:large")

    def submit(self, job: str, lane: Lane, since: float) -> None:
        fields = {**self._record(lane, since), "id": job}
        values = [part for item in fields.items() for part in item]
        self._submit(*values, jobs=[{"id": job, "lane": lane.name, "values": len(values)}])

    def take(self, token: str, ask: Ask) -> str | None:
        # The moment from which jobs count as stale is that of the checker, not now.
        module.STALE = datetime.now(UTC).timestamp() - self.stale
        self._claims._looked = float("inf")  # only when asked to: `look` below
        claim = self._claims.take(
            ask.served,
            list(ask.resident),
            execution=token,
            estimate=ask.estimate,
            memory=ask.memory,
            without=ask.paused,
        )
        if claim is None:
            return None
        self._held.setdefault(token, claim)  # as it was first charged
        return claim.job_id

    def settle(self, token: str, job: str, seconds: float) -> None:
        result = {"png": "p", "sidecar": "s", "sha256": "0"}
        assert self._claims.finish(self._held.pop(token), result, seconds)

    def release(self, token: str, job: str) -> None:
        assert self._claims.release(self._held.pop(token))

    def leave(self, token: str, job: str, needed: int, seconds: float) -> None:
        module.LEFT = int(seconds)
        assert self._claims.leave(self._held.pop(token), needed) == "back"

    def cancel(self, job: str) -> None:
        self._cancel(jobs=[job], client="", stamp=stamp(), days=7)

    def push(self, job: str, lane: Lane, since: float) -> None:
        self.redis.hset(keys.JOB(job), mapping=self._record(lane, since))
        self.redis.sadd(keys.QUEUES, keys.QUEUE(lane.name))
        self.redis.rpush(keys.QUEUE(lane.name), job)

    def empty(self, lane: Lane) -> None:
        jobs: Any = self.redis.lrange(keys.QUEUE(lane.name), 0, -1)
        self.redis.delete(keys.QUEUE(lane.name), *(keys.JOB(job) for job in jobs))

    def look(self) -> None:
        self.redis.delete(keys.LOOKED_WHOLE)
        self._claims.look(due=True)

    def forge(self, rng: random.Random, lane: Lane) -> bool:
        """Strangers' ids, and harm to the index, which is worth nothing that cannot be found again."""
        index = rng.choice((keys.LEVEL, keys.AHEAD))(lane.kind, lane.priority)
        there = {key: self.redis.type(key) for key in (index, keys.MAIL)}
        if b"string" in there.values():  # since an earlier forgery
            return False
        name = keys.QUEUE(lane.name)
        match rng.randrange(10):
            case 0:
                self.redis.lpush(name, "gone", "a/b")
            case 1:
                self.redis.rpush(keys.MAIL, "x", "kiln:a:b:c:d", lane.name, b"\xff")
            case 2:
                self.redis.lpush(keys.MOVED, "nobody", lane.client)
            case 3:
                self.redis.zadd(index, {"nobody": rng.choice((0, 1e12))})
            case 4:
                self.redis.zadd(index, {lane.client: 0})
            case 5:
                self.redis.zrem(keys.KINDS, lane.kind)
                return True
            case 6:
                self.redis.delete(index)
                return True
            case 7:
                self.redis.set(index, "x")
                return True
            case 8:
                self.redis.delete(keys.MAIL, keys.MOVED)
                return True
            case _:
                self.redis.set(keys.MAIL, "x")
                return True
        return False

    def _record(self, lane: Lane, since: float) -> dict[str, Any]:
        moment = stamp(datetime.fromtimestamp(since, UTC))
        return {"status": "queued", "origin": lane.name, "enqueued_at": moment, "data": "x"}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the farm changes of the module is put back."""
    monkeypatch.setattr(module, "STALE", module.STALE)
    monkeypatch.setattr(module, "LEFT", module.LEFT)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("seed", range(3))
def test_jobs_are_taken_in_the_order_of_the_model(kiln: Kiln, settings: Settings, seed: int) -> None:
    with connect(settings) as connection:
        assert check(Server(connection), seed, 500) == []


def main(seed: int = 1, operations: int = 20_000, seeds: int = 1) -> int:
    """Check for long; 1 where farm and model part."""
    from pixelkiln.worker.local.valkey import Valkey

    bad = 0
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        for one in range(seed, seed + seeds):
            with redis.Redis.from_url(valkey.url, protocol=2) as connection:
                connection.config_set("appendfsync", "no")
                connection.flushall()
                log = check(Server(connection), one, operations)
            print(f"seed {one}: {operations} operations, {'they part' if log else 'agree'}", flush=True)
            print(*log[-25:], sep="\n")
            bad += bool(log)
    return min(bad, 1)


assert UNBOUNDED == 2**53

if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
