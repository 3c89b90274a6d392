"""What producers ask for during a run: a seeded list of submissions, good and bad."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job

from pixelkiln.jobs import Kiln, NotReadyError, SpecError
from tests.chaos.account import Expected

Kind = Literal[
    "kiln", "twice", "plain", "function", "spec", "garbage", "statusless", "cancel", "reuse", "tools"
]
SIZES = ((64, 64), (64, 64), (96, 64), (64, 96), (128, 96))
CLIENTS = ("anna", "berta", "cyrus")
PRIORITIES = ("high", "normal", "normal", "normal", "low")
KINDS: dict[Kind, int] = {  # weights
    "kiln": 70,
    "twice": 10,  # submitted again under its id
    "plain": 8,  # by RQ alone
    "cancel": 4,
    "reuse": 4,  # once it has ended RQ forgets it, and its id is used for another picture
    "tools": 4,  # deleted, emptied, requeued and cancelled by RQ's own tools
    "function": 2,  # names a function of its own
    "spec": 2,  # a size that is none
    "garbage": 2,  # its data is not RQ's
    "statusless": 2,  # its record has no status
}
TOOLED = "dora"  # the client whose jobs RQ's tools are used on
FAILING: frozenset[Kind] = frozenset({"function", "spec", "garbage"})


@dataclass(frozen=True, slots=True)
class Submission:
    """One job, and when it is asked for, in seconds from the start."""

    at: float
    id: str
    kind: Kind
    client: str
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def lane(self) -> str:
        """The queue it waits in."""
        return f"kiln:demo:bf16:{self.spec['priority']}:{self.client}"

    @property
    def expected(self) -> Expected:
        """How it should end."""
        if self.kind == "cancel":
            return "cancelled or finished"
        if self.kind == "tools":
            return "anything"
        return "failed" if self.kind in FAILING else "finished"


def submissions(seed: int, count: int, seconds: float) -> list[Submission]:
    """`count` of them over `seconds`, in bursts."""
    dice = random.Random(f"{seed}:load")
    found = []
    while len(found) < count:
        at = dice.uniform(0, seconds)
        for _ in range(min(dice.choice((1, 1, 2, 5, 12)), count - len(found))):
            kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
            client, (width, height) = dice.choice(CLIENTS), dice.choice(SIZES)
            client = TOOLED if kind == "tools" else client
            spec = {
                "prompt": f"job {len(found)} of {dice.choice(('a fox', 'a lighthouse', 'three boats'))}",
                "model": "demo",
                "width": width,
                "height": height,
                "seed": dice.randrange(1000),
                "priority": dice.choice(PRIORITIES),
                "client": client,
            }
            found.append(Submission(at, f"s{seed}-{len(found)}-{kind}", kind, client, spec))
    return sorted(found, key=lambda one: one.at)


class Producer:
    """Submits, and insists until it is told that the job is there."""

    def __init__(self, kiln: Kiln, note: Callable[..., None]) -> None:
        self._kiln = kiln
        self._note = note

    def submit(self, one: Submission, deadline: float) -> None:
        """Bring a job in; the farm's Redis may be away, until `deadline` (monotonic)."""
        while True:
            try:
                self._send(one)
                return
            except (NotReadyError, redis.RedisError) as error:
                self._note("refused", job=one.id, error=str(error)[:80])
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def _send(self, one: Submission) -> None:
        connection = self._kiln.redis
        queue = Queue(one.lane, connection=connection, serializer="json")
        match one.kind:
            case "kiln" | "twice":
                for _ in range(2 if one.kind == "twice" else 1):
                    self._kiln.submit(one.spec, id=one.id)
            case "cancel" | "reuse" | "tools":
                self._kiln.submit(one.spec, id=one.id)
            case "plain":
                self._enqueue(queue, one, "pixelkiln.render", one.spec)
            case "function":
                self._enqueue(queue, one, "os.system", {"command": "true"})
            case "spec":
                self._enqueue(queue, one, "worker.tasks.render", one.spec | {"width": 65})
            case "garbage":
                with connection.pipeline() as pipe:  # at once: else a worker may have read a sound record
                    self._enqueue(queue, one, "pixelkiln.render", one.spec, pipe)
                    pipe.hset(f"rq:job:{one.id}", "data", b"\x80\x04garbage")
                    pipe.execute()
            case "statusless":
                self._kiln.submit(one.spec, id=one.id)
                connection.eval(_STATUSLESS, 1, f"rq:job:{one.id}")

    def _enqueue(
        self,
        queue: Queue,
        one: Submission,
        function: str,
        argument: dict[str, Any],
        pipeline: redis.client.Pipeline | None = None,
    ) -> None:
        """By plain RQ, which overwrites and pushes twice: so only where the job is not there yet."""
        if not self._kiln.redis.exists(f"rq:job:{one.id}"):
            queue.enqueue(
                function, argument, job_id=one.id, result_ttl=86400, failure_ttl=86400, pipeline=pipeline
            )


# A job that has been taken meanwhile keeps its status.
_STATUSLESS = (
    "if redis.call('HGET', KEYS[1], 'status') == 'queued' then redis.call('HDEL', KEYS[1], 'status') end"
)


def reuse(kiln: Kiln, one: Submission) -> bool:
    """Use the id of a job that has ended, and that Redis forgets now, for another picture.

    False where its first picture was never stored. It is refused where the first can be seen; a producer on
    plain RQ asks nobody, and workers must see it.
    """
    if kiln.statuses([one.id])[one.id].state != "finished":  # type: ignore[union-attr]
        return False
    other = one.spec | {"prompt": f"another picture under {one.id}", "seed": one.spec["seed"] + 1}
    with suppress(NoSuchJobError):  # a try before this one got as far
        _fetch(kiln.redis, one.id).delete()
    with suppress(SpecError, NotReadyError):
        kiln.submit(other, id=one.id)
        return True  # the bucket was away
    Queue(one.lane, connection=kiln.redis, serializer="json").enqueue(
        "pixelkiln.render", other, job_id=one.id, result_ttl=86400, failure_ttl=86400
    )
    return True


def cancel(connection: redis.Redis, job_id: str) -> None:
    """As RQ's own tools do it, whatever the job is at."""
    _fetch(connection, job_id).cancel()


def handle(connection: redis.Redis, one: Submission) -> None:
    """Do to a job what a dashboard's buttons do, whatever it is at."""
    queue = Queue(one.lane, connection=connection, serializer="json")
    job = _fetch(connection, one.id)
    match int(one.at * 10) % 4:
        case 0:
            job.delete()
        case 1:
            queue.empty()
        case 2:
            job.cancel()
            job.requeue()
        case _:
            job.cancel()
            job.delete()


def _fetch(connection: redis.Redis, job_id: str) -> Job:
    return Job.fetch(job_id, connection=connection, serializer="json")
