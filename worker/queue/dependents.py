"""Jobs that wait for the end of another: put into their queues when it comes, whoever's they are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import redis
from rq.queue import Queue
from rq.serializers import JSONSerializer

from pixelkiln.jobs import keys
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.record import Follower, RenderJob

if TYPE_CHECKING:
    from pixelkiln.worker.queue.claim import Claim

log = logging.getLogger("kiln.claims")

MOST_LANES = 10_000  # that are looked at once
RECOVER = 50  # seconds between two looks of all workers together
MOST_DEPENDENTS = 1000  # of one job that are looked at when it ends


class Dependents:
    """What follows the jobs that end here."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection

    def ready(self, job: RenderJob, claim: Claim, pipe: Any) -> dict[str, list[str]]:
        """Mark those that wait for nothing else now, within the transaction `pipe`; their ids by queue."""
        if not pipe.exists(job.dependents_key):
            return {}
        try:
            if pipe.scard(job.dependents_key) > MOST_DEPENDENTS:
                log.warning(
                    "job %s: has more than %d dependents; none of them is enqueued",
                    claim.job_id,
                    MOST_DEPENDENTS,
                )
                return {}
            members = pipe.smembers(job.dependents_key)
            if unreadable := [one for one in members if not _readable(one)]:
                self.connection.srem(job.dependents_key, *unreadable)  # and start over, for it is watched
                raise redis.WatchError
            # RQ reads them and writes them back: one that is cancelled meanwhile must stay so.
            for one in members:
                pipe.watch(keys.JOB(one.decode()))
            ready: dict[str, list[str]] = self._queue(claim.lane.name).move_dependents_to_ready(
                job, pipeline=pipe, refresh_job_status=False
            )
        except (redis.ConnectionError, redis.TimeoutError, redis.WatchError):
            raise
        except Exception as error:  # a dependent's record is malformed: this job ends all the same
            log.warning("job %s: its dependents cannot be read (%s)", claim.job_id, type(error).__name__)
            return {}
        return ready

    def enqueue(self, ready: dict[str, list[str]]) -> None:
        """Put dependents that are ready into their queues; those that cannot be now are seen to later."""
        for name, job_ids in ready.items():
            try:
                self._queue(name).ready_job_registry.enqueue_jobs(job_ids)
                if Lane.parse(name):
                    self.connection.lpush(keys.MAIL, name)
            except Exception as error:
                log.warning("queue %s: its ready jobs are not enqueued (%s)", name, type(error).__name__)

    def recover(self, *, due: bool = True) -> bool:
        """Enqueue those left half-way by a worker that died between two writes; whether it was our turn.

        Unless it is `due` one worker does it for all: each that did would look at every lane.
        """
        mine = due or self.connection.set(keys.RECOVERED, "1", nx=True, ex=RECOVER)
        if not mine and self.connection.ttl(keys.RECOVERED) <= RECOVER:  # else its clock was set back since
            return False
        found: Any = self.connection.srandmember(keys.QUEUES, MOST_LANES)
        names = (key.removeprefix(keys.QUEUE.prefix.encode()) for key in found)
        lanes = [lane for name in names if (lane := Lane.parse(name))]
        with self.connection.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.exists(keys.READY(lane))
            left = pipe.execute()
        for lane, waiting in zip(lanes, left, strict=True):
            if waiting:
                try:
                    members: Any = self.connection.zrange(keys.READY(lane), 0, MOST_DEPENDENTS - 1)
                    if unreadable := [member for member in members if not _readable(member)]:
                        self.connection.zrem(keys.READY(lane), *unreadable)
                except redis.ResponseError:  # of another type
                    self.connection.unlink(keys.READY(lane))
                else:
                    self.enqueue({lane.name: [member.decode() for member in members if _readable(member)]})
        return True

    def _queue(self, lane: str) -> Queue:
        return Queue(lane, connection=self.connection, job_class=Follower, serializer=JSONSerializer)


def _readable(name: bytes) -> bool:
    return name.decode("utf-8", "replace").encode() == name
