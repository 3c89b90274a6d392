"""The end of an execution: RQ's bookkeeping, its client's account and the claim, all or nothing."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import redis
from rq.executions import Execution
from rq.job import JobStatus as RQStatus
from rq.registry import FinishedJobRegistry
from rq.results import Result
from rq.utils import utcformat

from pixelkiln.jobs import keys
from pixelkiln.jobs.plain import MAX_TEXT, plain
from pixelkiln.jobs.queue.record import DAY, FAILURE_DAYS, RenderJob
from pixelkiln.jobs.sidecar import BETWEEN
from pixelkiln.worker.host.tally import Tally
from pixelkiln.worker.queue.dependents import Dependents

if TYPE_CHECKING:
    from pixelkiln.worker.queue.claim import Claim

log = logging.getLogger("kiln.claims")

ENDS = 10_000  # that wait to be told; the oldest go
CONFLICTS = 40  # tries at a settlement while others write the same keys
QUARANTINED = "quarantined:"


class Settlement:
    """Ends the executions of one worker. Every call may be made again after a lost reply."""

    def __init__(
        self, connection: redis.Redis, worker: str, days: int, dependents: Dependents, tally: Tally
    ) -> None:
        self.connection = connection
        self.worker = worker
        self._days = days
        self._dependents = dependents
        self._tally = tally

    def finish(self, claim: Claim, result: dict[str, str], seconds: float, *suspicious: str) -> bool:
        """End the job as finished; `seconds` of GPU time are its client's. False where it is not ours.

        suspicious: what the checks found in its picture.
        """
        marks = BETWEEN.join(suspicious)
        done = self._end(claim, RQStatus.FINISHED, result=result, suspicious=marks, seconds=seconds)
        if done:
            self._tally.ended("finished", *claim.lane.counted_as)
        return done

    def fail(self, claim: Claim, reason: str, seconds: float | None) -> bool:
        """End the job as failed with one line that says why. False where it is not ours.

        Its client pays, too: else jobs that fail would always go before others'. None: what was charged.
        """
        done = self._end(claim, RQStatus.FAILED, reason=reason, seconds=seconds)
        if done:
            end = "quarantined" if reason.startswith(QUARANTINED) else "failed"
            self._tally.ended(end, *claim.lane.counted_as)
        return done

    def _end(
        self,
        claim: Claim,
        status: RQStatus,
        *,
        result: dict[str, str] | None = None,
        reason: str = "",
        suspicious: str = "",
        seconds: float | None,
    ) -> bool:
        """One transaction that ends the execution with RQ's bookkeeping, or nothing.

        Owner, account, record and dependents are watched: a cancel, a requeue or a reap in between makes it
        start over and find the job someone else's. Where that happens again and again, someone means to hold
        us up: then only owner and account are watched, which all but RQ's own tools change, and dependents
        are left waiting.
        """
        job, account = self._shell(claim, status), keys.ACCOUNT(claim.job_id, claim.execution)
        for tries in range(CONFLICTS):
            calm = tries < CONFLICTS // 2
            with self.connection.pipeline() as pipe:
                try:
                    pipe.watch(  # type: ignore[no-untyped-call]
                        keys.OWNER(claim.job_id),
                        account,
                        *((job.key, job.dependents_key) if calm else ()),
                    )
                    try:
                        owner, state = pipe.get(keys.OWNER(claim.job_id)), pipe.hget(job.key, "status")
                    except redis.ResponseError as error:
                        return not_ours(error)
                    if owner != claim.execution.encode() or state != b"started":
                        return self._settled_before(job, claim)
                    charged = float(pipe.hget(account, "charged") or 0)
                    owed = 0.0 if seconds is None else seconds - charged
                    ready = self._dependents.ready(job, claim, pipe) if calm else {}
                    if not pipe.explicit_transaction:
                        pipe.multi()
                    self._bookkeep(pipe, job, claim, status, result, reason, suspicious, owed)
                    answers = pipe.execute(raise_on_error=False)
                except redis.WatchError:
                    continue
            if refused := [str(one) for one in answers if isinstance(one, redis.ResponseError)]:
                # Redis ran the rest of the transaction all the same: a key of the wrong type, which anybody
                # may have written, must not keep a job from ending.
                log.warning("job %s: %s", claim.job_id, "; ".join(refused))
                if not self._settled_before(job, claim):
                    self.connection.unlink(keys.RESULTS(claim.job_id))
                    self._tell(self.connection, job, claim, status, result, reason)
            self._dependents.enqueue(ready)
            return True
        log.warning("job %s: its owner is written all the time; its end is left to the reaper", claim.job_id)
        return False

    def _bookkeep(
        self,
        pipe: Any,
        job: RenderJob,
        claim: Claim,
        status: RQStatus,
        result: dict[str, str] | None,
        reason: str,
        suspicious: str,
        owed: float,
    ) -> None:
        """Queue the writes of one end: RQ's record, result and registry; then our claim goes.

        owed: GPU seconds beyond those that were charged.
        """
        ended = datetime.now(UTC)
        told, past = _outcome(result, reason, suspicious)
        pipe.hset(job.key, mapping={"status": status.value, "ended_at": utcformat(ended), **told})
        pipe.hdel(job.key, *past)
        for ends in (keys.FINISHED, keys.FAILED):  # those that Redis has forgotten are listed no more
            pipe.zremrangebyscore(ends(claim.lane), 0, ended.timestamp())
        ttl = self._tell(pipe, job, claim, status, result, reason)
        if status is RQStatus.FINISHED:
            FinishedJobRegistry(claim.lane.name, self.connection).add(job, ttl, pipe)
            pipe.hdel(keys.STRAYS, f"{claim.lane.client}:{claim.job_id}")  # what lies there is finished now
        else:
            pipe.zadd(keys.FAILED(claim.lane), {claim.job_id: ended.timestamp() + ttl})
        for key in (job.key, job.dependents_key, job.dependencies_key):
            pipe.expire(key, ttl)
        # Only where a worker tells of ends: it made the stream, see worker/telling.
        pipe.xadd(keys.ENDS, {"job": claim.job_id}, maxlen=ENDS, nomkstream=True)
        execution = Execution(claim.execution, claim.job_id, self.connection, self.worker)
        pipe.unlink(execution.key)  # before RQ's DEL, which would hold the server up were it full
        execution.delete(job, pipe)
        pipe.zrem(keys.LEASES, execution.composite_key)
        if owed:
            pipe.hincrbyfloat(keys.CLOCKS, claim.lane.client, owed)
            pipe.lpush(keys.MOVED, claim.lane.client)
        pipe.unlink(
            keys.OWNER(claim.job_id),
            keys.TAKEN(claim.execution),
            keys.BLAME(claim.job_id),
            keys.ACCOUNT(claim.job_id, claim.execution),
        )

    def _tell(
        self,
        pipe: Any,
        job: RenderJob,
        claim: Claim,
        status: RQStatus,
        result: dict[str, str] | None,
        reason: str,
    ) -> int:
        """Write RQ's result of one end; the seconds it is kept."""
        about = {
            "worker_name": self.worker,
            "pipeline": pipe,
            "execution_id": claim.execution,
            "execution_started_at": claim.started,
            "execution_ended_at": datetime.now(UTC),
        }
        if status is RQStatus.FINISHED:
            Result.create(job, Result.Type.SUCCESSFUL, ttl := self._days * DAY, return_value=result, **about)
        else:
            Result.create_failure(job, ttl := FAILURE_DAYS * DAY, reason, **about)
        return ttl

    def _settled_before(self, job: RenderJob, claim: Claim) -> bool:
        """Whether this very execution ended the job already, its reply lost."""
        try:
            latest: Any = self.connection.xrevrange(keys.RESULTS(claim.job_id), count=1)
        except redis.ResponseError:  # a stranger's key of another type
            return False
        return bool(latest and latest[0][1].get(b"execution_id") == claim.execution.encode())

    def _shell(self, claim: Claim, status: RQStatus) -> RenderJob:
        """RQ's object for a job whose record is not parsed: enough for its bookkeeping."""
        job = RenderJob(connection=self.connection)
        job._id = claim.job_id  # not validated: a producer may have chosen anything
        job.origin = claim.lane.name
        job._status = status
        return job


def _outcome(result: dict[str, str] | None, reason: str, suspicious: str) -> tuple[dict[str, str], list[str]]:
    """A job's end as fields of its record; the fields of other ends.

    The JSON is for those who cannot read RQ's results: nothing of ours reads it.
    """
    if result is not None:
        told = {"kiln_result": json.dumps(result)} | ({"kiln_suspicious": suspicious} if suspicious else {})
        return told, ["kiln_error", *(() if suspicious else ("kiln_suspicious",))]
    last = reason.strip().splitlines()[-1:]
    error = json.dumps({"error": plain(last[0])[:MAX_TEXT] if last else ""})
    return {"kiln_error": error}, ["kiln_result", "kiln_suspicious"]


def not_ours(error: redis.ResponseError) -> bool:
    """False where a stranger put a key of another type in the place of ours. Else raises the error."""
    if "WRONGTYPE" in str(error):
        return False
    raise error


def crash_story(job_id: str, worker: str, crashes: int) -> str:
    """Why a job that took workers down is quarantined, that is: a dead letter."""
    return (
        f"{QUARANTINED} {crashes} workers died while they rendered it, the last one {worker or 'unknown'}; "
        f"see that worker's log, then: kiln retry {plain(job_id)}"
    )


def lapse_story(job_id: str, worker: str, lapses: int) -> str:
    """Why a job whose workers fell silent is quarantined."""
    return (
        f"{QUARANTINED} {lapses} times its worker died or was cut off while it rendered it, the last one "
        f"{worker or 'unknown'}; see that worker's log, then: kiln retry {plain(job_id)}"
    )
