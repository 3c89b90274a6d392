"""Claims on jobs: taking, keeping and giving them back, over RQ's records.

A claim is a lease on a job, held by an execution whose id is the fencing token: `kiln:own:<job>` names the
one that holds it. A worker that lost a claim learns one thing about it: it is not its own any more.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Literal

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.control.orders import MAX_ORDER, MOST_ORDERS
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.queue.record import read_spec
from pixelkiln.jobs.queue.scripts import Script
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.host.tally import Tally
from pixelkiln.worker.queue.claim import Claim, Progress, new_execution, stamp
from pixelkiln.worker.queue.dependents import Dependents
from pixelkiln.worker.queue.halves import Halves
from pixelkiln.worker.queue.server_clock import STEP, ServerClock
from pixelkiln.worker.queue.settlement import Settlement, crash_story, lapse_story, not_ours
from pixelkiln.worker.queue.strays import Strays

LEASE = 15.0  # seconds without a renewal until any worker may give the job back
CRASHES = 2  # workers that a job has taken down for certain, from which it is quarantined (a dead letter)
LAPSES = 4  # leases that ran out on it, from which it is too: a network that is cut does that as well
STALE = 600.0  # seconds a lane's oldest job waits before residence of a model stops mattering
LEFT = 600  # seconds that a job too large for one worker is left to larger ones, until it is looked at anew
CALLS = 100  # that make one take, or one look: each ends in time, and others come in between
REAPED = 100  # leases that one call looks at
LOOK = 0.9  # seconds between two looks through the queues for what no mail told of

INDEX = ("early.lua", "hours.lua", "index.lua")
OPERATIONS = {  # the scripts, each by the files in lua/ that it is made of
    name: ("guards.lua", *{"take": INDEX, "look": (*INDEX, "later.lua")}.get(name, ()), f"{name}.lua")
    for name in ("take", "look", "renew", "release", "leave", "adopt", "reap", "strays", "orders", "halves")
}
LUA = resources.files("pixelkiln.worker.queue") / "lua"

Adoption = Literal["owned", "gone", "queued", "started", "finished", "failed", "canceled", "stopped"]


class NewOrdersError(Exception):
    """The orders that a worker knows are not those in force."""


class Claims:
    """The claims of one worker. Every call may be made again after a lost reply.

    All methods raise redis.RedisError where the server is away; what was asked may then have happened.
    """

    def __init__(
        self, connection: redis.Redis, worker: str, *, days: int = 7, tally: Tally | None = None
    ) -> None:
        self.connection, self.worker, self.tally = connection, worker, tally or Tally()
        files = {name: [LUA / part for part in parts] for name, parts in OPERATIONS.items()}
        self._scripts = {name: Script(connection, name, *parts) for name, parts in files.items()}
        self.strays = Strays(connection, self._scripts["strays"])
        self._dependents = Dependents(connection)
        self._halves = Halves(connection, self._scripts["halves"])
        self._settlement = Settlement(connection, worker, days, self._dependents, self.tally)
        self._cursor, self._whole = "0", False  # of a look under way
        self._looked = float("-inf")  # monotonic

    def take(
        self,
        served: Sequence[str],
        resident: Sequence[str] = (),
        *,
        execution: str | None = None,
        estimate: float = 30.0,
        memory: int = 2**53,
        serial: str | None = None,
        without: Collection[str] = (),
        handed: Iterable[tuple[Claim, Progress]] = (),
    ) -> Claim | None:
        """The next job of the best lane among the `model:quantization` served, if any waits.

        Best: highest priority, then the client that had least GPU time, then the kinds `resident` unless
        another has waited too long. Clients `without` are passed over, and jobs that were left to workers
        with more than `memory` bytes. Its client is charged `estimate` GPU seconds until it is known better.
        `handed`: the jobs that this worker has rendered and holds; with this call, at the latest, they are
        paid for, and blamed for nothing that comes. Repeating a call with the same `execution` gives the same
        job. Raises NewOrdersError where `serial` is given and not that of the orders in force.
        """
        execution = execution or new_execution()
        if looked := time.monotonic() - self._looked >= LOOK:
            self.look()
        started = datetime.now(UTC)
        asked = {
            "execution": execution,
            "worker": self.worker,
            "stamp": stamp(started),
            "lease": LEASE,
            "estimate": estimate,
            "served": list(served),
            "resident": list(resident),
            "memory": memory,
            "stale": started.timestamp() - STALE,
            "serial": serial,
            "without": list(without),
            "handed": [_told(claim, progress) for claim, progress in handed],
        }
        found = self._take(asked)
        if not found and not looked and self.look():
            found = self._take({**asked, "stamp": stamp(started := datetime.now(UTC))})
        if not found:
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
        )

    def look(self, *, due: bool = False) -> bool:
        """Look through the queues for jobs that takes do not know of, or that are due: whether any was found.

        One worker does it for all, about once a second, unless the queues are few; `due`: this one, now.
        """
        found = 0
        for _ in range(CALLS):
            answer = self._call(
                "look", cursor=self._cursor, whole=self._whole, due=due, every=LOOK, stamp=stamp()
            )
            if not answer:  # another does
                break
            self._cursor, self._whole = answer[0].decode(), bool(answer[1])
            found += answer[2]
            if self._cursor == "0":
                break
        self._looked = time.monotonic()
        return found > 0

    def orders(self) -> tuple[str, bytes, dict[str, tuple[bytes, bytes]]]:
        """The serial of the orders in force, the farm's identity, and the order and seal under each field.

        Nobody has looked at them yet. The identity is b'' where none was drawn.

        Raises NewOrdersError where there are more than an admin can have given.
        """
        found = self._call("orders", longest=MAX_ORDER, most=MOST_ORDERS)
        if found == b"many":
            raise NewOrdersError
        serial, farm, *rest = found
        names = (name.decode("utf-8", "replace") for name in rest[::3])
        orders = zip(rest[1::3], rest[2::3], strict=True)
        return serial.decode("utf-8", "replace"), farm, dict(zip(names, orders, strict=True))

    def renew(self, held: Iterable[tuple[Claim, Progress | None]]) -> set[str]:
        """Prolong the leases and publish the progress given; the executions that own their job no more."""
        told = [_told(claim, progress) for claim, progress in held]
        if not told:
            return set()
        lost = self._call("renew", held=told, worker=self.worker, stamp=stamp(), lease=LEASE)
        return {execution.decode() for execution in lost}

    def release(self, claim: Claim, *, crashed: bool = False) -> bool:
        """Give the job back to the front of its lane; False where it was not ours to give.

        A job that `crashed` its worker once too often is failed instead.
        """
        answer = self._call(
            "release", **_about(claim), worker=self.worker, crashes=CRASHES if crashed else None
        )
        if answer == b"blamed":
            return self.fail(claim, crash_story(claim.job_id, self.worker, CRASHES))
        return bool(answer == b"back")

    def leave(self, claim: Claim, needed: int) -> Literal["back", "alone", "lost"]:
        """Leave a job that needs so many bytes to workers that have them, for LEFT seconds, if any lives.

        'alone': none does, and the job is still ours to end.
        """
        answer: Literal["back", "alone", "lost"] = self._call(
            "leave", **_about(claim), worker=self.worker, kind=claim.lane.kind, needed=needed, seconds=LEFT
        ).decode()
        return answer

    def holds(self, claim: Claim) -> bool:
        """Whether the claim still stands."""
        with self.connection.pipeline() as pipe:
            pipe.get(keys.OWNER(claim.job_id))
            pipe.hget(keys.JOB(claim.job_id), "status")
            try:
                owner, status = pipe.execute()
            except redis.ResponseError as error:
                return not_ours(error)
        return bool(owner == claim.execution.encode() and status == b"started")

    def wait(self, models: Iterable[str], seconds: float) -> None:
        """Block until a producer rings for one of the models, or `seconds` have passed."""
        self.connection.blpop([keys.BELL(model) for model in models], timeout=seconds)

    def adopt(self, claim: Claim, seconds: float = 0.0, spec: RenderSpec | None = None) -> Adoption:
        """Go on with a claim that was this worker's: 'owned', or where the job stands instead.

        `seconds` of GPU time went into its picture. `spec` is what was rendered: a job that waits for another
        picture by now is left in its lane.
        """
        answer = self._call(
            "adopt", **_about(claim), worker=self.worker, stamp=stamp(), lease=LEASE, cost=seconds
        )
        if isinstance(answer, bytes):
            standing: Adoption = answer.decode()  # type: ignore[assignment] # the script's words
            return standing
        if spec is None or _asks_for(spec, answer[2], claim):
            return "owned"
        self.release(claim)
        return "queued"

    def reap(self, clock: ServerClock | None = None) -> list[str]:
        """Reclaim expired leases: give their jobs back; fail those on which that happened too often.

        Returns the ids that are queued again; none from where Redis's clock is not as `clock` says.
        """
        queued: list[str] = []
        for _ in range(CALLS):
            expected = clock and clock.now()
            back, blamed, looked_at = self._call(
                "reap", lapses=LAPSES, limit=REAPED, expected=expected, step=STEP
            )
            queued += (job_id.decode("utf-8", "replace") for job_id in back)
            for job_id, execution, name, worker in blamed:
                lane = Lane.parse(name)
                assert lane is not None  # the script gives back to no other queue
                claim = Claim(job_id.decode("utf-8", "replace"), execution.decode("utf-8", "replace"), lane)
                self.fail(claim, lapse_story(claim.job_id, worker.decode("utf-8", "replace"), LAPSES))
            if looked_at < REAPED:
                break
        return queued

    def finish(self, claim: Claim, result: dict[str, str], seconds: float, *suspicious: str) -> bool:
        """End the job as finished: see Settlement.finish. False where it is not ours."""
        return self._settlement.finish(claim, result, seconds, *suspicious)

    def fail(self, claim: Claim, reason: str, seconds: float | None = None) -> bool:
        """End the job as failed with one line that says why; see finish. None: what was charged stands."""
        return self._settlement.fail(claim, reason, seconds)

    def recover(self, *, due: bool = True) -> bool:
        """Enqueue what a worker or a producer that died between two writes left half-way; if it was our turn.

        One worker does it for all, about once a minute, of records some; `due`: this one, now, of all.
        """
        if mine := self._dependents.recover(due=due):
            self._halves.find(whole=due)
        return mine

    def _take(self, asked: dict[str, Any]) -> Any:
        for tries in range(CALLS):
            found = self._call("take", **asked, hasty=tries == CALLS - 1)
            if found == b"look":
                self.look(due=True)
            elif found != b"more":
                return found
        return None

    def _call(self, operation: str, **named: Any) -> Any:
        return self._scripts[operation](**named)


def _asks_for(spec: RenderSpec, data: bytes, claim: Claim) -> bool:
    """Whether a record's payload asks for the picture that `spec` does."""
    try:
        return not spec.differs(read_spec(data, claim.lane, claim.job_id))
    except SpecError:
        return False


def _about(claim: Claim, **more: Any) -> dict[str, Any]:
    """What the scripts call a claim; None is left out."""
    about = {"job": claim.job_id, "execution": claim.execution, "lane": claim.lane.name, **more}
    return {name: value for name, value in about.items() if value is not None}


def _told(claim: Claim, progress: Progress | None) -> dict[str, Any]:
    """The same with its progress, where there is news."""
    if progress is None:
        return _about(claim)
    handed = progress.phase == "delivering" or None
    return _about(claim, progress=progress.wire(), cost=progress.cost, handed=handed)
