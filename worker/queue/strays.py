"""Which jobs may have left objects in the bucket that nobody will finish, as workers noted it in Redis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.queue.scripts import Script
from pixelkiln.worker.queue.settlement import not_ours

KEEP = 600.0  # seconds after an execution's end in which requests that it made may reach the bucket
EVERY = 30.0  # seconds between two looks for what it left there, and longer the longer ago it was
MOST = 20  # jobs that one call tells of


@dataclass(frozen=True, slots=True)
class Stray:
    """A job that has ended without a picture, though executions of it may have left objects in the bucket."""

    name: str  # as Redis lists it
    client: str
    job_id: str
    executions: tuple[str, ...]  # that ended unsettled


class Strays:
    """What executions left. All methods raise redis.RedisError where the server is away."""

    def __init__(self, connection: redis.Redis, script: Script) -> None:
        self._connection = connection
        self._script = script

    def due(self, swept: Iterable[Stray] = ()) -> list[Stray]:
        """Those whose objects are to be looked at now; `swept` of an earlier call were cleared.

        One worker is told of a job at a time; it comes up again until late requests must have arrived.
        """
        names = [stray.name for stray in swept]
        found = self._script(swept=names, keep=KEEP, every=EVERY, most=MOST)
        texts = ([part.decode("utf-8", "replace") for part in one] for one in found)
        return [Stray(name, client, job, tuple(which.split())) for name, client, job, which in texts]

    def abandoned(self, job_id: str, *, stored: bool = False) -> bool:
        """Whether the job has ended without a picture, and is nobody's.

        One that is `stored` whole only a cancel makes unwanted: it may have finished before Redis went back.
        """
        with self._connection.pipeline() as pipe:
            pipe.exists(keys.OWNER(job_id))
            pipe.hget(keys.JOB(job_id), "status")
            try:
                owned, status = pipe.execute()
            except redis.ResponseError as error:
                return not_ours(error)
        ends = {b"canceled", b"stopped"} if stored else {b"canceled", b"stopped", b"failed"}
        return not owned and status in ends
