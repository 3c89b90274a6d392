"""How a job fares, read from RQ's own record: there is no second table."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import redis
from rq.results import Result
from rq.serializers import JSONSerializer

from pixelkiln.jobs import keys
from pixelkiln.jobs.catalogue import MAX_SIDE
from pixelkiln.jobs.control.orders import Target
from pixelkiln.jobs.lanes import PREFIX, Lane
from pixelkiln.jobs.plain import plain
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.sidecar import Sidecar

State = Literal["queued", "started", "finished", "failed", "cancelled"]
Phase = Literal["loading", "rendering", "delivering"]

MAX_ERROR = 64 * 1024  # bytes that are inflated of an error's text
MAX_TEXT = 500  # characters that are shown of a field
_FIELDS = (
    "status",
    "origin",
    "meta",
    "kiln_attempts",
    "worker_name",
    "enqueued_at",
    "started_at",
    "ended_at",
)
_RESULT = ("png", "sidecar", "sha256")
ENDED = frozenset({"finished", "failed", "cancelled"})
_STATES: dict[str, State] = {
    "started": "started",
    "finished": "finished",
    "failed": "failed",
    "canceled": "cancelled",
    "stopped": "cancelled",
}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job at one moment."""

    id: str
    state: State
    lane: str = ""
    phase: Phase | None = None  # while started
    step: int = 0  # finished steps of this try
    steps: int = 0  # 0 until the first is known
    attempt: int = 0
    worker: str = ""
    error: str = ""  # why it failed, in one line
    submitted_at: str = ""  # UTC, ISO 8601
    started_at: str = ""
    ended_at: str = ""
    result: dict[str, str] | None = None  # {png, sidecar, sha256}: keys in the bucket

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def of_sidecar(cls, sidecar: Sidecar, key: str) -> JobStatus:
        """What the bucket still knows of a job that Redis has forgotten."""
        return cls(
            id=sidecar.job.id,
            state="finished",
            lane=plain(sidecar.spec.lane.name),
            attempt=sidecar.job.attempt,
            worker=plain(sidecar.host.get("worker", "")),
            submitted_at=plain(sidecar.job.submitted_at),
            started_at=plain(sidecar.job.started_at),
            ended_at=plain(sidecar.job.rendered_at),
            result={"png": sidecar.png.key, "sidecar": key, "sha256": sidecar.png.sha256},
        )


def read_statuses(connection: redis.Redis, job_ids: list[str]) -> dict[str, JobStatus | None]:
    """The status of each job, in one round trip; None for those Redis does not know."""
    with connection.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.type(keys.JOB(job_id))
            pipe.hmget(keys.JOB(job_id), _FIELDS)  # the rest may be large
            pipe.xrevrange(keys.RESULTS(job_id), count=1)
        answers = pipe.execute(raise_on_error=False)
    return {
        job_id: _status(job_id, connection, *answers[3 * i : 3 * i + 3]) for i, job_id in enumerate(job_ids)
    }


def read_farm(connection: redis.Redis) -> dict[str, list[dict[str, Any]]]:
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
    workers = []
    for key, record in zip(records, answers[4 * len(lanes) :], strict=True):
        if isinstance(record, dict) and record:
            fields = {_text(k): _text(v) for k, v in record.items()}
            workers.append(
                {
                    "name": _text(key).removeprefix(keys.WORKER.prefix),
                    "state": fields.get("kiln_state", ""),
                    "serves": fields.get("queues", ""),
                    "host": fields.get("hostname", ""),
                    "seen": fields.get("last_heartbeat", ""),
                    "paused": fields.get("kiln_paused", ""),
                    "orders": fields.get("kiln_orders", ""),
                    "memory": _count(fields.get("kiln_memory")),
                    "largest": _sides(fields.get("kiln_largest", "")),
                }
            )
    return {
        "lanes": [
            {
                "lane": _text(lane),
                "queued": queued,
                "started": started,
                "finished": finished,
                "failed": failed,
            }
            for lane, (queued, started, finished, failed) in zip(lanes, counts, strict=True)
        ],
        "workers": workers,
    }


def read_open(connection: redis.Redis, target: Target, client: str) -> list[str]:
    """Ids of jobs that wait in the target's lanes or are held by its workers; of one `client`, or '' for all.

    As RQ's records have them: each is to be looked at before anything is done to it.
    """
    found: list[bytes] = []
    if target.kind == "worker":
        members: Any = connection.smembers(keys.WORKERS)
        for key in members:
            name = _text(key).removeprefix(keys.WORKER.prefix)
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


def _status(job_id: str, connection: redis.Redis, kind: Any, record: Any, results: Any) -> JobStatus | None:
    if kind != b"hash" or not isinstance(record, list):
        return None
    values = dict(zip(_FIELDS, record, strict=True))
    fields = {name: _text(value) for name, value in values.items() if value is not None}
    state = _STATES.get(fields.get("status", ""), "queued")
    error, result = _outcome(job_id, results, connection) if state in ENDED else ("", None)
    progress = _object(values["meta"] or b"") if state == "started" else {}
    phase = progress.get("phase")
    return JobStatus(
        id=job_id,
        state=state,
        lane=fields.get("origin", ""),
        phase=phase if phase in ("loading", "rendering", "delivering") else None,
        step=_count(progress.get("step")),
        steps=_count(progress.get("steps")),
        attempt=_count(fields.get("kiln_attempts")),
        worker=fields.get("worker_name", ""),
        error=error,
        submitted_at=fields.get("enqueued_at", ""),
        started_at=fields.get("started_at", ""),
        ended_at=fields.get("ended_at", ""),
        result=result,
    )


def _outcome(job_id: str, results: Any, connection: redis.Redis) -> tuple[str, dict[str, str] | None]:
    """The error line and the returned value of the latest result."""
    if not isinstance(results, list) or not results:
        return "", None
    try:
        key, payload = results[0]
        packed = base64.b64decode(payload.pop(b"exc_string", b""))  # RQ would inflate it without a limit
        told = zlib.decompressobj().decompress(packed, MAX_ERROR).strip().splitlines()
        latest = Result.restore(job_id, key.decode(), payload, connection, serializer=JSONSerializer)
    except Exception as error:  # whatever lies there was not written by a worker of ours
        return f"its result cannot be read ({type(error).__name__})", None
    value: Any = latest.return_value
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in _RESULT):
        value = None
    last = _text(told[-1]) if told else ""
    return last, value and {key: plain(value[key])[:MAX_TEXT] for key in _RESULT}


def _text(value: bytes) -> str:
    return plain(value[: 4 * MAX_TEXT].decode("utf-8", "replace"))[:MAX_TEXT]


def _sides(text: str) -> dict[str, int]:
    """Of each `model:quantization`, the side in pixels of the largest square that a worker can render."""
    return {kind: min(_count(side), MAX_SIDE) for kind, side in _object(text.encode()).items()}


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(text[:MAX_TEXT])
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    try:
        return max(0, int(value))  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return 0
