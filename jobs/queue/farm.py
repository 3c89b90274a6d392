"""The farm at one moment: what waits in its lanes, and what its workers do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.catalogue import MAX_SIDE
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.lanes import PREFIX, Lane
from pixelkiln.jobs.plain import count, mapping, text
from pixelkiln.jobs.queue.record import JOB_ID


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """How many jobs of one lane stand where."""

    lane: str  # its name, as RQ has it: not each that begins like ours is one
    queued: int = 0
    started: int = 0
    finished: int = 0  # that Redis remembers, as of failed ones
    failed: int = 0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker, as it last told."""

    name: str
    state: str = ""  # in words: idle, rendering a job, or why it takes none
    serves: tuple[str, ...] = ()  # each `model:quantization`
    host: str = ""
    seen: str = ""  # its last heartbeat: UTC, ISO 8601
    paused: tuple[str, ...] = ()  # what it was ordered to pause: farm, client:NAME, model:NAME, worker:NAME
    orders: str = ""  # fingerprint of the key whose orders it obeys; '' for none
    memory: int = 0  # bytes it may use
    largest: dict[str, int] = field(default_factory=dict)  # of each it serves, the largest square's side

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self) | {"serves": ",".join(self.serves), "paused": ",".join(self.paused)}


@dataclass(frozen=True, slots=True)
class Farm:
    """What waits in each lane and what each worker does."""

    lanes: tuple[LaneStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()

    @property
    def served(self) -> set[str]:
        """Each `model:quantization` that a worker serves."""
        return {kind for worker in self.workers for kind in worker.serves}

    @property
    def paused(self) -> set[str]:
        """What a worker was ordered to pause."""
        return {target for worker in self.workers for target in worker.paused}

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        lanes = [asdict(lane) for lane in self.lanes]
        return {"lanes": lanes, "workers": [worker.as_dict() for worker in self.workers]}


def read_farm(connection: redis.Redis) -> Farm:
    """Counts per lane and the workers that RQ lists. Registries are counted without RQ's cleanup of them."""
    names: Any = connection.smembers(keys.QUEUES)
    queues = (key.removeprefix(keys.QUEUE.prefix.encode()) for key in names)
    # Those that are no lanes are shown too: whoever mistyped one sees where the jobs wait.
    lanes = sorted(name for name in queues if name.startswith(PREFIX.encode() + b":"))
    listed: Any = connection.smembers(keys.WORKERS)
    records = sorted(listed)
    with connection.pipeline(transaction=False) as pipe:
        for lane in lanes:
            pipe.llen(keys.QUEUE(lane))
            for registry in (keys.STARTED, keys.FINISHED, keys.FAILED):
                pipe.zcard(registry(lane))
        for key in records:
            pipe.hgetall(key)
        answers = pipe.execute(raise_on_error=False)
    counts = [[n if isinstance(n, int) else 0 for n in answers[4 * i : 4 * i + 4]] for i in range(len(lanes))]
    return Farm(
        tuple(LaneStatus(text(lane), *numbers) for lane, numbers in zip(lanes, counts, strict=True)),
        tuple(
            _worker(key, record)
            for key, record in zip(records, answers[4 * len(lanes) :], strict=True)
            if isinstance(record, dict) and record
        ),
    )


def _worker(key: bytes, record: dict[bytes, bytes]) -> WorkerStatus:
    fields = {text(name): text(value) for name, value in record.items()}
    largest = mapping(fields.get("kiln_largest", "").encode())
    return WorkerStatus(
        name=text(key).removeprefix(keys.WORKER.prefix),
        state=fields.get("kiln_state", ""),
        serves=_listed(fields.get("queues", "")),
        host=fields.get("hostname", ""),
        seen=fields.get("last_heartbeat", ""),
        paused=_listed(fields.get("kiln_paused", "")),
        orders=fields.get("kiln_orders", ""),
        memory=count(fields.get("kiln_memory")),
        largest={kind: min(count(side), MAX_SIDE) for kind, side in largest.items()},
    )


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name for name in names.split(",") if name)


def read_open(connection: redis.Redis, target: Target, client: str) -> list[str]:
    """Ids of jobs that wait in the target's lanes or are held by its workers; of one `client`, or '' for all.

    As RQ's records have them: each is to be looked at before anything is done to it.
    """
    found: list[bytes] = []
    if target.kind == "worker":
        members: Any = connection.smembers(keys.WORKERS)
        for key in members:
            name = text(key).removeprefix(keys.WORKER.prefix)
            if target.covers(name):
                found += _held_by(connection, name)
    else:
        names: Any = connection.smembers(keys.QUEUES)
        for name in (key.removeprefix(keys.QUEUE.prefix.encode()) for key in names):
            lane = Lane.parse(name)
            if lane is None or (client and lane.client != client):
                continue
            if target.kind == "farm" or target.name == (
                lane.model if target.kind == "model" else lane.client
            ):
                found += _ids_in(connection, name)
    texts = (job_id.decode("utf-8", "replace") for job_id in found)
    return [job_id for job_id in dict.fromkeys(texts) if JOB_ID.fullmatch(job_id)]


def _held_by(connection: redis.Redis, worker: str) -> list[bytes]:
    """Ids of the jobs that a worker holds: those of the executions listed whose jobs name it still."""
    with connection.pipeline(transaction=False) as pipe:
        pipe.smembers(keys.WORKER_EXECUTIONS(worker))
        (members,) = pipe.execute(raise_on_error=False)
        ids = [one.rpartition(b":")[0] for one in members] if isinstance(members, set | list) else []
        for one in ids:
            pipe.hmget(keys.JOB(one), "status", "worker_name")
        records = pipe.execute(raise_on_error=False)
    return [one for one, record in zip(ids, records, strict=True) if record == [b"started", worker.encode()]]


def _ids_in(connection: redis.Redis, lane: bytes) -> list[bytes]:
    """Waiting, held and deferred ids of a lane; where a stranger's key has another type, none."""
    with connection.pipeline(transaction=False) as pipe:
        pipe.lrange(keys.QUEUE(lane), 0, -1)
        pipe.zrange(keys.STARTED(lane), 0, -1)
        pipe.zrange(keys.DEFERRED(lane), 0, -1)
        waiting, held, deferred = (
            answer if isinstance(answer, list) else [] for answer in pipe.execute(raise_on_error=False)
        )
    return [*waiting, *(member.rpartition(b":")[0] for member in held), *deferred]
