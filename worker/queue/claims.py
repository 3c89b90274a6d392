"""Claims on jobs: taking, keeping, giving back and settling them, over RQ's records.

A claim is held by an execution, and `kiln:own:<job>` names the one that holds it. Whatever a worker learns
about a claim that it lost is one thing: it is not its own any more.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Literal

import redis
from rq.executions import Execution
from rq.job import JobStatus as RQStatus
from rq.queue import Queue
from rq.registry import FinishedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer

from pixelkiln.jobs import keys
from pixelkiln.jobs.control.orders import MAX_ORDER
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.record import DAY, FAILURE_DAYS, Follower, RenderJob

log = logging.getLogger("kiln.claims")

LEASE = 15.0  # seconds without a renewal until any worker may give the job back
CRASHES = 2  # workers that a job has taken down for certain, from which it is quarantined
LAPSES = 4  # leases that ran out on it, from which it is too: a network that is cut does that as well
STALE = 600.0  # seconds a lane's oldest job waits before residence of a model stops mattering

LEFT = 600  # seconds that a job too large for one worker is left to larger ones, until it is looked at anew
MOST_ORDERS = 4096
MOST_LANES = 10_000  # that are looked at once
MOST_DEPENDENTS = 1000  # of one job that are looked at when it ends
LOOKS = 100  # calls that make one take where strangers left more lanes or ids than one call looks at
CONFLICTS = 40  # tries at a settlement while others write the same keys

Adoption = Literal["owned", "gone", "queued", "started", "finished", "failed", "canceled", "stopped"]


class NewOrdersError(Exception):
    """The orders that a worker knows are not those in force."""


def stamp(moment: datetime | None = None) -> str:
    """A moment as RQ writes it: UTC, ISO 8601, microseconds."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Claim:
    """One execution's hold on one job."""

    job_id: str
    execution: str
    lane: Lane
    data: bytes = b""  # RQ's payload, not parsed
    submitted_at: str = ""
    attempt: int = 1
    crashes: int = 0  # and lapses, before this attempt
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    estimate: float = 0.0  # GPU seconds charged to the client when it was taken


@dataclass(frozen=True, slots=True)
class Progress:
    """What `kiln status` shows of a started job."""

    phase: Literal["loading", "rendering", "delivering"]
    step: int = 0
    steps: int = 0

    def wire(self) -> str:
        """As it stands in RQ's `meta`."""
        return json.dumps({"phase": self.phase, "step": self.step, "steps": self.steps})


class Claims:
    """The claims of one worker. Every call may be made again after a lost reply.

    All methods raise redis.RedisError where the server is away; what was asked may then have happened.
    """

    def __init__(self, connection: redis.Redis, worker: str, *, days: int = 7) -> None:
        self.connection = connection
        self.worker = worker
        self._days = days
        self._script = connection.register_script(
            files("pixelkiln.worker.queue").joinpath("claims.lua").read_text()
        )

    def take(
        self,
        served: Sequence[str],
        resident: str = "",
        *,
        execution: str | None = None,
        estimate: float = 30.0,
        memory: int = 2**53,
        serial: str | None = None,
        without: Collection[str] = (),
    ) -> Claim | None:
        """The next job of the best lane among the `model:quantization` served, if any waits.

        Best: highest priority, then the client that had least GPU time, then `resident` unless another has
        waited too long. Clients `without` are passed over, and jobs that were left to workers with more than
        `memory` bytes. Repeating a call with the same `execution` gives the same job. Raises NewOrdersError
        where `serial` is given and not that of the orders in force.
        """
        execution = execution or new_execution()
        started = datetime.now(UTC)
        stale = stamp(datetime.fromtimestamp(started.timestamp() - STALE, UTC))
        about = [execution, self.worker, stamp(started), LEASE, estimate, stale, resident, memory]
        known = "-" if serial is None else serial
        found: Any = b"more"
        for _ in range(LOOKS):  # each a call of its own, so that others come in between
            if found == b"more":
                found = self._call("take", *about, known, len(without), *without, *served)
        if not found or found == b"more":
            return None
        if found == b"orders":
            raise NewOrdersError
        job_id, name, data, submitted, attempt, crashes = found
        lane = Lane.parse(name)
        assert lane is not None  # the script takes from no other queue
        return Claim(
            job_id.decode(),
            execution,
            lane,
            data,
            submitted.decode("utf-8", "replace")[:40],
            attempt,
            crashes,
            started,
            estimate,
        )

    def orders(self) -> tuple[str, dict[str, bytes]]:
        """The serial of the orders in force, and what stands under each field: nobody has looked at it yet.

        Raises NewOrdersError where there are more than an admin can have given.
        """
        found = self._call("orders", MAX_ORDER, MOST_ORDERS)
        if found == b"many":
            raise NewOrdersError
        serial, *pairs = found
        names = (name.decode("utf-8", "replace") for name in pairs[::2])
        return serial.decode("utf-8", "replace"), dict(zip(names, pairs[1::2], strict=True))

    def renew(self, held: Iterable[tuple[Claim, Progress | None]]) -> set[str]:
        """Prolong the leases and publish the progress given; the executions that own their job no more."""
        arguments: list[Any] = [self.worker, stamp(), LEASE]
        for claim, progress in held:
            arguments += [claim.job_id, claim.execution, claim.lane.name, progress.wire() if progress else ""]
        if len(arguments) == 3:
            return set()
        return {execution.decode() for execution in self._call("renew", *arguments)}

    def release(self, claim: Claim, *, crashed: bool = False) -> bool:
        """Give the job back to the front of its lane; False where it was not ours to give.

        A job that `crashed` its worker once too often is failed instead.
        """
        allowed = CRASHES if crashed else ""
        answer = self._call("release", claim.job_id, claim.execution, claim.lane.name, self.worker, allowed)
        if answer == b"blamed":
            return self.fail(claim, crash_story(self.worker))
        return bool(answer == b"back")

    def leave(self, claim: Claim, needed: int) -> Literal["back", "alone", "lost"]:
        """Leave a job that needs so many bytes to workers that have them, for LEFT seconds, if any lives.

        'alone': none does, and the job is still ours to end.
        """
        kind = claim.lane.kind
        about = claim.job_id, claim.execution, claim.lane.name, self.worker
        answer: Literal["back", "alone", "lost"] = self._call("leave", *about, kind, needed, LEFT).decode()
        return answer

    def holds(self, claim: Claim) -> bool:
        """Whether the claim still stands."""
        with self.connection.pipeline() as pipe:
            pipe.get(keys.OWNER(claim.job_id))
            pipe.hget(keys.JOB(claim.job_id), "status")
            try:
                owner, status = pipe.execute()
            except redis.ResponseError as error:
                return _not_ours(error)
        return bool(owner == claim.execution.encode() and status == b"started")

    def cancelled(self, claim: Claim) -> bool:
        """Whether the job was ended by someone who does not want its picture."""
        try:
            status = self.connection.hget(keys.JOB(claim.job_id), "status")
        except redis.ResponseError as error:
            return _not_ours(error)
        return status in {b"canceled", b"stopped"}

    def wait(self, models: Iterable[str], seconds: float) -> None:
        """Block until a producer rings for one of the models, or `seconds` have passed."""
        self.connection.blpop([keys.BELL(model) for model in models], timeout=seconds)

    def adopt(self, claim: Claim) -> Adoption:
        """Go on with a claim of an earlier life of this worker: 'owned', or where the job stands instead."""
        arguments = claim.job_id, claim.execution, claim.lane.name, self.worker, stamp(), LEASE
        answer: Adoption = self._call("adopt", *arguments).decode()
        return answer

    def reap(self) -> list[str]:
        """Give back the jobs whose leases ran out; fail those on which that happened too often.

        Returns the ids that are queued again.
        """
        back, blamed = self._call("reap", LAPSES)
        for job_id, execution, name, worker in blamed:
            lane = Lane.parse(name)
            assert lane is not None  # nor gives back to another
            claim = Claim(job_id.decode("utf-8", "replace"), execution.decode("utf-8", "replace"), lane)
            self.fail(claim, lapse_story(worker.decode("utf-8", "replace")))
        return [job_id.decode("utf-8", "replace") for job_id in back]

    def finish(self, claim: Claim, result: dict[str, str], seconds: float) -> bool:
        """End the job as finished; `seconds` of GPU time are its client's. False where it is not ours."""
        return self._settle(claim, RQStatus.FINISHED, result=result, seconds=seconds)

    def fail(self, claim: Claim, reason: str) -> bool:
        """End the job as failed with one line that says why. False where it is not ours.

        Its client pays for the time since it was taken: else jobs that fail would always go before others'.
        """
        seconds = max(0.0, (datetime.now(UTC) - claim.started).total_seconds())
        return self._settle(claim, RQStatus.FAILED, reason=reason, seconds=seconds)

    def recover_dependents(self) -> None:
        """Enqueue dependents left half-way by a worker that died between two writes."""
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
                    self.connection.delete(keys.READY(lane))
                else:
                    self._enqueue({lane.name: [member.decode() for member in members if _readable(member)]})

    def _call(self, operation: str, *arguments: Any) -> Any:
        return self._script(args=[operation, *arguments])

    def _settle(
        self,
        claim: Claim,
        status: RQStatus,
        *,
        result: dict[str, str] | None = None,
        reason: str = "",
        seconds: float,
    ) -> bool:
        """One transaction that ends the execution with RQ's bookkeeping, or nothing.

        Owner, record and dependents are watched: a cancel, a requeue or a reap in between makes it start over
        and find the job someone else's. Where that happens again and again, someone means to hold us up:
        then only the owner is watched, which all but RQ's own tools change, and dependents are left waiting.
        """
        job = self._shell(claim, status)
        for tries in range(CONFLICTS):
            calm = tries < CONFLICTS // 2
            with self.connection.pipeline() as pipe:
                try:
                    pipe.watch(  # type: ignore[no-untyped-call]
                        keys.OWNER(claim.job_id), *((job.key, job.dependents_key) if calm else ())
                    )
                    try:
                        owner, state = pipe.get(keys.OWNER(claim.job_id)), pipe.hget(job.key, "status")
                    except redis.ResponseError as error:
                        return _not_ours(error)
                    if owner != claim.execution.encode() or state != b"started":
                        return self._settled_before(job, claim)
                    ready = self._ready_dependents(job, claim, pipe) if calm else {}
                    if not pipe.explicit_transaction:
                        pipe.multi()
                    self._bookkeep(pipe, job, claim, status, result, reason, seconds)
                    answers = pipe.execute(raise_on_error=False)
                except redis.WatchError:
                    continue
            if refused := [str(one) for one in answers if isinstance(one, redis.ResponseError)]:
                # The rest of the transaction stands: a stranger's key of another type holds no job up.
                log.warning("job %s: %s", claim.job_id, "; ".join(refused))
                if not self._settled_before(job, claim):
                    self.connection.delete(keys.RESULTS(claim.job_id))
                    self._tell(self.connection, job, claim, status, result, reason)
            self._enqueue(ready)
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
        seconds: float,
    ) -> None:
        """Queue the writes of one end: RQ's record, result and registry; then our claim goes."""
        ended = datetime.now(UTC)
        pipe.hset(job.key, mapping={"status": status.value, "ended_at": stamp(ended)})
        for ends in (keys.FINISHED, keys.FAILED):  # those that Redis has forgotten are listed no more
            pipe.zremrangebyscore(ends(claim.lane), 0, ended.timestamp())
        ttl = self._tell(pipe, job, claim, status, result, reason)
        if status is RQStatus.FINISHED:
            FinishedJobRegistry(claim.lane.name, self.connection).add(job, ttl, pipe)
        else:
            pipe.zadd(keys.FAILED(claim.lane), {claim.job_id: ended.timestamp() + ttl})
        for key in (job.key, job.dependents_key, job.dependencies_key):
            pipe.expire(key, ttl)
        execution = Execution(claim.execution, claim.job_id, self.connection, self.worker)
        execution.delete(job, pipe)
        pipe.zrem(keys.LEASES, execution.composite_key)
        pipe.hincrbyfloat(keys.CLOCKS, claim.lane.client, seconds - claim.estimate)
        pipe.delete(keys.OWNER(claim.job_id), keys.TAKEN(claim.execution))

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

    def _ready_dependents(self, job: RenderJob, claim: Claim, pipe: Any) -> dict[str, list[str]]:
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

    def _enqueue(self, ready: dict[str, list[str]]) -> None:
        """Put dependents that are ready into their queues; those that cannot be now are seen to later."""
        for name, job_ids in ready.items():
            try:
                self._queue(name).ready_job_registry.enqueue_jobs(job_ids)
            except Exception as error:
                log.warning("queue %s: its ready jobs are not enqueued (%s)", name, type(error).__name__)

    def _queue(self, lane: str) -> Queue:
        return Queue(lane, connection=self.connection, job_class=Follower, serializer=JSONSerializer)

    def _shell(self, claim: Claim, status: RQStatus) -> RenderJob:
        """RQ's object for a job whose record is not parsed: enough for its bookkeeping."""
        job = RenderJob(connection=self.connection)
        job._id = claim.job_id  # not validated: a producer may have chosen anything
        job.origin = claim.lane.name
        job._status = status
        return job


def _not_ours(error: redis.ResponseError) -> bool:
    """False where a stranger put a key of another type in the place of ours. Else raises the error."""
    if "WRONGTYPE" in str(error):
        return False
    raise error


def _readable(name: bytes) -> bool:
    return name.decode("utf-8", "replace").encode() == name


def new_execution() -> str:
    """A fresh execution id, which also makes a take repeatable."""
    return uuid.uuid4().hex


def crash_story(worker: str) -> str:
    """Why a job that took workers down is quarantined."""
    return (
        f"quarantined: {CRASHES} workers died while they rendered it, the last one {worker or 'unknown'}; "
        "see that worker's log, then submit it again"
    )


def lapse_story(worker: str) -> str:
    """Why a job whose workers fell silent is quarantined."""
    return (
        f"quarantined: {LAPSES} times its worker died or was cut off while it rendered it, the last one "
        f"{worker or 'unknown'}; see that worker's log, then submit it again"
    )
