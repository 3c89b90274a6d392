"""The farm at one moment: what waits in its lanes, and what its workers do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count as count_from
from typing import Any

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.catalogue import MAX_SIDE
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.lanes import PREFIX, Lane
from pixelkiln.jobs.plain import count, mapping, text
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.queue.scripts import HERE, Script

PAGE = 1000  # names or ids in one reply: while it gathers them the server does nothing else
LANES = 50  # whose pages come in one round trip
LOOKED_AT = 100  # lanes or workers in one call
GONE = 15.0  # seconds after a worker's last heartbeat: its leases have run out
MAX_FIELD = 8 * 1024  # bytes of a worker's field; what is longer none of ours wrote
FASTEST = 10**15  # pixels times steps in a second
_FIELDS = (
    "kiln_state",
    "queues",
    "hostname",
    "last_heartbeat",
    "kiln_beat",
    "kiln_paused",
    "kiln_orders",
    "kiln_memory",
    "kiln_used",
    "kiln_largest",
    "kiln_resident",
    "kiln_hours",
    "kiln_speeds",
)


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """How many jobs of one lane stand where."""

    lane: str  # its name, as RQ has it: not each that begins like ours is one
    queued: int = 0
    started: int = 0
    finished: int = 0  # that Redis remembers, as of failed ones
    failed: int = 0
    later: int = 0  # not in the lane yet: they wait for a time, or for the end of others


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker, as it last told."""

    name: str
    state: str = ""  # in words: idle, rendering a job, or why it takes none; gone: and what it was doing
    serves: tuple[str, ...] = ()  # each `model:quantization`
    host: str = ""
    seen: str = ""  # its last heartbeat: UTC, ISO 8601
    age: float | None = None  # seconds since then by Redis's clock; None of a worker that does not tell
    paused: tuple[str, ...] = ()  # what it was ordered to pause: farm, client:NAME, model:NAME, worker:NAME
    orders: str = ""  # fingerprint of the key whose orders it obeys; '' for none
    memory: int = 0  # bytes it may use
    used: int = 0  # of these, as it last told; 0 of a worker that does not
    largest: dict[str, int] = field(default_factory=dict)  # of each it serves, the largest square's side
    hours: tuple[tuple[float, float], ...] = ()  # in which it works, in seconds since 1970; none: always
    speeds: dict[str, float] = field(default_factory=dict)  # pixels times steps in a second, of each rendered
    resident: tuple[str, ...] = ()  # of those it serves the ones in memory, the last used first

    @property
    def gone(self) -> bool:
        """Whether its heartbeats have stopped: it is dead, frozen, or cut off."""
        return self.age is not None and self.age > GONE

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        listed = {name: ",".join(getattr(self, name)) for name in ("serves", "paused", "resident")}
        return asdict(self) | listed


@dataclass(frozen=True, slots=True)
class Farm:
    """What waits in each lane and what each worker does."""

    lanes: tuple[LaneStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()

    @property
    def served(self) -> set[str]:
        """Each `model:quantization` that a worker serves which is not gone."""
        return {kind for worker in self.workers if not worker.gone for kind in worker.serves}

    @property
    def paused(self) -> set[str]:
        """What a worker was ordered to pause."""
        return {target for worker in self.workers for target in worker.paused}

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        lanes = [asdict(lane) for lane in self.lanes]
        return {"lanes": lanes, "workers": [worker.as_dict() for worker in self.workers]}


def read_farm(connection: redis.Redis) -> Farm:
    """Counts per lane and the workers that RQ lists. Registries are counted without RQ's cleanup of them.

    Of a worker's record its own fields are read, and no more: strangers may have made it long.
    """
    lanes = lanes_of(connection)
    counts = zip(lanes, _read(connection, lanes, lanes=True), strict=True)
    return Farm(tuple(LaneStatus(text(lane), *found) for lane, found in counts), read_workers(connection))


def lanes_of(connection: redis.Redis) -> list[bytes]:
    """Names of the lanes, and of what is none: whoever mistyped one sees where the jobs wait."""
    queues = (key.removeprefix(keys.QUEUE.prefix.encode()) for key in _members(connection, keys.QUEUES))
    return sorted(name for name in queues if name.startswith(PREFIX.encode() + b":"))


def read_workers(connection: redis.Redis) -> tuple[WorkerStatus, ...]:
    """The workers that RQ lists."""
    records = sorted(_members(connection, keys.WORKERS))
    workers = zip(records, _read(connection, records, lanes=False), strict=True)
    seconds, microseconds = connection.time()
    now = seconds + microseconds / 1e6
    return tuple(_worker(key, fields, now) for key, fields in workers if any(fields))


def _read(connection: redis.Redis, names: list[bytes], *, lanes: bool) -> list[Any]:
    """What the script tells of each of these lanes, or of these workers' records."""
    read, answers = Script(connection, "farm", HERE / "farm.lua"), []
    for start in range(0, len(names), LOOKED_AT):
        some = names[start : start + LOOKED_AT]
        known = len(some) if lanes else 0
        answers += read(*some, lanes=known, fields=_FIELDS, longest=MAX_FIELD)
    return answers


def _members(connection: redis.Redis, key: str) -> set[bytes]:
    """What a set holds, read in parts; nobody waits for all of it."""
    return set(connection.sscan_iter(key, count=PAGE))


def _worker(key: bytes, values: list[bytes], now: float) -> WorkerStatus:
    fields = {name: text(value) for name, value in zip(_FIELDS, values, strict=True)}
    largest, speeds = (mapping(values[_FIELDS.index(one)]) for one in ("kiln_largest", "kiln_speeds"))
    age = _since(fields["kiln_beat"], now)
    state = fields["kiln_state"]
    return WorkerStatus(
        name=text(key).removeprefix(keys.WORKER.prefix),
        state=f"gone; was {state or 'there'}" if age is not None and age > GONE else state,
        age=age,
        serves=_listed(fields["queues"]),
        host=fields["hostname"],
        seen=fields["last_heartbeat"],
        paused=_listed(fields["kiln_paused"]),
        orders=fields["kiln_orders"],
        memory=count(fields["kiln_memory"]),
        used=count(fields["kiln_used"]),
        resident=_listed(fields["kiln_resident"]),
        hours=hours_in(fields["kiln_hours"]),
        speeds={kind: float(min(count(speed), FASTEST)) for kind, speed in speeds.items() if count(speed)},
        largest={kind: min(count(side), MAX_SIDE) for kind, side in largest.items()},
    )


def _since(beat: str, now: float) -> float | None:
    """Seconds from a time to `now`; None for what is none, or lies ahead of it."""
    try:
        age = now - float(beat)
    except ValueError:
        return None
    return max(0.0, round(age, 1)) if -GONE < age < 1e9 else None  # not of nan, either


def hours_in(text: str) -> tuple[tuple[float, float], ...]:
    """Hours as `Windows.told` writes them, and workers in their records; none where it is no such list."""
    pairs = (re.fullmatch(r"(\d{1,11})-(\d{1,11})", part) for part in text.split(","))
    return tuple((float(pair[1]), float(pair[2])) for pair in pairs if pair)


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name for name in names.split(",") if name)


def read_open(connection: redis.Redis, target: Target, client: str) -> list[str]:
    """Ids of jobs that wait in the target's lanes or are held by its workers; of one `client`, or '' for all.

    As RQ's records have them: each is to be looked at before anything is done to it. Those of a lane come in
    their order, so that who ends one after another finds each at its front. What is taken meanwhile may move
    another past a page unseen: look again.
    """
    found: list[bytes] = []
    if target.kind == "worker":
        for key in _members(connection, keys.WORKERS):
            name = text(key).removeprefix(keys.WORKER.prefix)
            if target.covers(name):
                found += _held_by(connection, name)
    else:
        queues = _members(connection, keys.QUEUES)
        names = sorted(key.removeprefix(keys.QUEUE.prefix.encode()) for key in queues)
        lanes = [name for name in names if _covers(target, client, Lane.parse(name))]
        for start in range(0, len(lanes), LANES):
            found += _ids_in(connection, lanes[start : start + LANES])
    texts = (job_id.decode("utf-8", "replace") for job_id in found)
    return [job_id for job_id in dict.fromkeys(texts) if JOB_ID.fullmatch(job_id)]


def _covers(target: Target, client: str, lane: Lane | None) -> bool:
    if lane is None or (client and lane.client != client):
        return False
    return target.kind == "farm" or target.name == (lane.model if target.kind == "model" else lane.client)


def _held_by(connection: redis.Redis, worker: str) -> list[bytes]:
    """Ids of the jobs that a worker holds: those of the executions listed whose jobs name it still."""
    try:
        members = sorted(_members(connection, keys.WORKER_EXECUTIONS(worker)))
    except redis.ResponseError:  # a stranger's key of another type
        return []
    found = []
    for start in range(0, len(members), PAGE):
        ids = [one.rpartition(b":")[0] for one in members[start : start + PAGE]]
        with connection.pipeline(transaction=False) as pipe:
            for one in ids:
                pipe.hmget(keys.JOB(one), "status", "worker_name")
            records = pipe.execute(raise_on_error=False)
        held = [b"started", worker.encode()]
        found += [one for one, record in zip(ids, records, strict=True) if record == held]
    return found


def _ids_in(connection: redis.Redis, lanes: list[bytes]) -> Iterator[bytes]:
    """Waiting, held, deferred, scheduled ids of lanes, by pages; where a key has another type, none."""
    for start in count_from(0, PAGE):
        with connection.pipeline(transaction=False) as pipe:
            for lane in lanes:
                pipe.lrange(keys.QUEUE(lane), start, start + PAGE - 1)
                pipe.zrange(keys.DEFERRED(lane), start, start + PAGE - 1)
                pipe.zrange(keys.SCHEDULED(lane), start, start + PAGE - 1)
                pipe.zrange(keys.STARTED(lane), start, start + PAGE - 1)
            answers = [one if isinstance(one, list) else [] for one in pipe.execute(raise_on_error=False)]
        for number, ids in enumerate(answers):
            yield from (one.rpartition(b":")[0] for one in ids) if number % 4 == 3 else ids
        lanes = [lane for n, lane in enumerate(lanes) if PAGE in map(len, answers[4 * n : 4 * n + 4])]
        if not lanes:
            return
