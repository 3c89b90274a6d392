"""Where jobs stand in RQ's lists and registries, and how that is changed: see Queue."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import redis
from rq.utils import now, utcformat

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.connection import explained
from pixelkiln.jobs.queue.door import Door, chunks
from pixelkiln.jobs.queue.farm import LOOKED_AT, lanes_of
from pixelkiln.jobs.queue.queue import Standing, Stood
from pixelkiln.jobs.queue.record import JOB_ID, RenderJob, spec_in
from pixelkiln.jobs.queue.scripts import HERE, Script
from pixelkiln.jobs.queue.status import State
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import MAX_WIRE, Priority, RenderSpec

MANY = 500  # jobs whose standing is read at once
# What the scripts answer, which speak RQ's words; a status that is none of RQ's waits to be judged.
_STOOD: dict[str, Stood] = {
    "started": "started",
    "finished": "finished",
    "failed": "failed",
    "canceled": "cancelled",
    "stopped": "cancelled",
    "held": "held",
    "deferred": "deferred",
    "unknown": "unknown",
    "foreign": "foreign",
}


def standing_script(connection: redis.Redis) -> Script:
    """What `read_standing` asks with."""
    return Script(connection, "states", HERE / "states.lua")


def read_standing(script: Script, job_ids: Sequence[str], client: str = "") -> dict[str, Standing | None]:
    """How many jobs stand, by RQ's records. Raises redis.RedisError."""
    found: dict[str, Standing | None] = {}
    for chunk in chunks(job_ids, MANY):
        for job_id, answer in zip(chunk, script(jobs=list(chunk), client=client), strict=True):
            found[job_id] = standing_of(answer) if answer else None
    return found


class Places(Door):
    """See Queue."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._place = Script(self.connection, "place", HERE / "place.lua")
        self._standing = standing_script(self.connection)
        self._recent = Script(self.connection, "recent", HERE / "recent.lua")

    def specs(self, job_ids: Sequence[str]) -> dict[str, RenderSpec | None]:
        """What those that are there ask for; None where a record is of another's, or too long to be read."""
        self._check()
        found: dict[str, RenderSpec | None] = {}
        for chunk in chunks(job_ids):
            with explained(self._settings), self.connection.pipeline(transaction=False) as pipe:
                for job_id in chunk:
                    pipe.exists(keys.JOB(job_id))
                    pipe.hstrlen(keys.JOB(job_id), "data")
                answers = pipe.execute(raise_on_error=False)
                sizes = dict(zip(chunk, zip(answers[::2], answers[1::2], strict=True), strict=True))
                if errors := [one for one in answers[::2] if isinstance(one, redis.RedisError)]:
                    raise errors[0]
                there = [job_id for job_id, (exists, _) in sizes.items() if exists]
                readable = [
                    one for one in there if isinstance(sizes[one][1], int) and sizes[one][1] <= MAX_WIRE
                ]
                for job_id in readable:
                    pipe.hget(keys.JOB(job_id), "data")
                data = dict(zip(readable, pipe.execute(raise_on_error=False), strict=True))
            found |= {job_id: _spec(data.get(job_id), job_id) for job_id in there}
        return found

    def standing(self, job_ids: Sequence[str], client: str = "") -> dict[str, Standing | None]:
        """How many stand, by RQ's records."""
        self._check()
        with explained(self._settings):
            return read_standing(self._standing, job_ids, client)

    def retry(self, job_ids: Sequence[str], client: str, *, again: bool) -> dict[str, Stood]:
        """Let jobs that ended wait again."""
        return self._placed("retry", job_ids, client, again=again or None)

    def hold(self, job_ids: Sequence[str], client: str) -> dict[str, Stood]:
        """Let no worker take those that wait."""
        return self._placed("hold", job_ids, client)

    def free(self, job_ids: Sequence[str], client: str) -> dict[str, Stood]:
        """Let held jobs wait again."""
        return self._placed("free", job_ids, client)

    def move(self, job_ids: Sequence[str], client: str, priority: Priority) -> dict[str, Stood]:
        """Give those that wait another priority; a record that cannot be read is left as it is."""
        found: dict[str, Stood] = dict.fromkeys(job_ids, "unknown")
        for chunk in chunks(job_ids):
            specs = {one: spec for one, spec in self.specs(chunk).items() if spec is not None}
            data = (self._data(one, spec, priority) for one, spec in specs.items())
            found |= self._placed("move", list(specs), client, *data, priority=priority)
        return found

    def recent(
        self,
        client: str,
        states: Collection[State],
        limit: int,
        since: str,
        before: tuple[str, str] | None = None,
    ) -> list[tuple[str, str]]:
        """The newest jobs of all lanes; what is older than `limit` newer ones is not looked at."""
        self._check()
        newest: list[tuple[str, str]] = []
        behind = {} if before is None else {"before": before[0], "id": before[1]}
        asked: dict[str, Any] = {"states": list(states), "limit": limit, "client": client, **behind}
        with explained(self._settings):
            names = lanes_of(self.connection)
            lanes = [one for one in names if client in ("", getattr(Lane.parse(one), "client", None))]
            for some in chunks(lanes, LOOKED_AT):
                after = max(since, newest[-1][0] if len(newest) == limit else "")
                found = self._recent(*some, after=after, **asked)
                texts = (part.decode("utf-8", "replace") for part in found)
                pairs = {one: time for time, one in zip(texts, texts, strict=True) if JOB_ID.fullmatch(one)}
                both = {*newest, *((plain(time), one) for one, time in pairs.items())}
                newest = sorted(both, reverse=True)[:limit]
        return newest

    def finished(self, lanes: Sequence[str], limit: int) -> list[str]:
        """Ids of those that finished last, as far as Redis remembers them."""
        self._check()
        with explained(self._settings), self.connection.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.zrange(keys.FINISHED(lane), -limit, -1, withscores=True)
            answers = [one for one in pipe.execute(raise_on_error=False) if isinstance(one, list)]
        newest = sorted((pair for one in answers for pair in one), key=lambda pair: -pair[1])[:limit]
        return [name.decode("utf-8", "replace") for name, _ in newest]

    def place(self, job_id: str) -> tuple[int, int] | None:
        """A waiting job's place in its lane, and how many wait there."""
        self._check()
        with explained(self._settings):
            found: Any = self.connection.hmget(keys.JOB(job_id), "status", "origin")
            status, origin = found
            if status != b"queued" or not origin:
                return None
            at: Any = self.connection.lpos(keys.QUEUE(origin), job_id)
            waiting: Any = self.connection.llen(keys.QUEUE(origin))
        return None if at is None else (at + 1, waiting)

    def _data(self, job_id: str, spec: RenderSpec, priority: Priority) -> bytes:
        """What RQ's record holds of a spec, with another priority."""
        other = spec.model_copy(update={"priority": priority})
        record = RenderJob.of(other, job_id, self.connection, days=1, batch=None)
        return cast(bytes, record.to_dict()["data"])

    def _placed(
        self, verb: str, job_ids: Sequence[str], client: str, *data: bytes, **more: Any
    ) -> dict[str, Stood]:
        self._check()
        found: dict[str, Stood] = {}
        for chunk in chunks(job_ids):  # `data` is of one chunk
            asked = {"jobs": list(chunk), "verb": verb, "client": client, "stamp": utcformat(now()), **more}
            with explained(self._settings):
                words = self._place(*data, **asked)
            for job_id, word in zip(chunk, words, strict=True):
                found[job_id] = _STOOD.get(word.decode("utf-8", "replace"), "queued")
        return found


def standing_of(answer: bytes) -> Standing:
    """What states.lua tells of a job that is there."""
    status, started, ended, mark = answer.decode("utf-8", "replace").rsplit(" ", 3)
    begun, end = (plain(time).strip("-") for time in (started, ended))
    return Standing(_STOOD.get(status, "queued"), begun, end, mark == "!")


def _spec(data: object, job_id: str) -> RenderSpec | None:
    try:
        return spec_in(data).with_seed(job_id) if isinstance(data, bytes) else None
    except SpecError:
        return None
