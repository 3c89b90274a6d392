"""How a job fares, read from RQ's own record: there is no second table."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import redis
from rq.results import Result as RQResult
from rq.serializers import JSONSerializer

from pixelkiln.jobs import keys
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.plain import MAX_TEXT, count, mapping, plain, seconds, text
from pixelkiln.jobs.queue.waits import read_waits
from pixelkiln.jobs.sidecar import Sidecar, doubts_in

State = Literal["queued", "started", "finished", "failed", "cancelled"]
Phase = Literal["loading", "rendering", "delivering"]

MAX_ERROR = 64 * 1024  # bytes that are inflated of an error's text
_FIELDS = (
    "status",
    "origin",
    "dependency_ids",
    "rate_limit_key",
    "kiln_unheeded",
    "meta",
    "kiln_attempts",
    "kiln_held",
    "worker_name",
    "enqueued_at",
    "started_at",
    "ended_at",
    "kiln_suspicious",
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
class Result:
    """What a finished job left in the bucket."""

    png: str  # key of the picture
    sidecar: str  # key of its record
    sha256: str  # of the picture, hexadecimal


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job at one moment."""

    id: str
    state: State
    lane: str = ""
    phase: Phase | None = None  # while started
    step: int = 0  # finished steps of this try
    steps: int = 0  # 0 until the first is known
    each: float = 0.0  # seconds the last step took; 0 where that is not told
    attempt: int = 0
    held: bool = False  # queued, and not to be taken until its batch is resumed
    worker: str = ""
    not_before: str = ""  # while it waits for this moment: UTC, ISO 8601
    waits: str = ""  # while it waits for others' ends, or the like: for what, in words
    unheeded: tuple[str, ...] = ()  # of what its producer asked of RQ, by RQ's names: what is not done here
    error: str = ""  # why it failed, in one line
    submitted_at: str = ""  # UTC, ISO 8601
    started_at: str = ""
    ended_at: str = ""
    result: Result | None = None  # once finished
    suspicious: tuple[str, ...] = ()  # once finished: what the checks found in the picture; mostly nothing
    off_recipe: str = (
        ""  # once it renders, and of what is stored: how it departs from what its model was made for
    )

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    @property
    def client(self) -> str:
        """Whose it is, by its lane; '' of what is in none."""
        lane = Lane.parse(self.lane)
        return lane.client if lane else ""

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
            result=Result(sidecar.png.key, key, sidecar.png.sha256),
            suspicious=sidecar.suspicious,
            off_recipe=plain(sidecar.model.get("off_recipe", "")),
        )


def read_statuses(connection: redis.Redis, job_ids: Sequence[str]) -> dict[str, JobStatus | None]:
    """The status of each job, in one round trip; None for those Redis does not know."""
    with connection.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.type(keys.JOB(job_id))
            pipe.hmget(keys.JOB(job_id), _FIELDS)  # the rest may be large
            pipe.xrevrange(keys.RESULTS(job_id), count=1)
        answers = pipe.execute(raise_on_error=False)
    found = {
        job_id: _status(job_id, connection, *answers[3 * i : 3 * i + 3]) for i, job_id in enumerate(job_ids)
    }
    records = {
        job_id: dict(zip(_FIELDS, answers[3 * i + 1], strict=True))
        for i, job_id in enumerate(job_ids)
        if found[job_id] is not None
    }
    waits = read_waits(connection, records)
    return {
        job_id: replace(status, not_before=waits[job_id][0], waits=waits[job_id][1])
        if status is not None and job_id in waits
        else status
        for job_id, status in found.items()
    }


def _status(job_id: str, connection: redis.Redis, kind: Any, record: Any, results: Any) -> JobStatus | None:
    if kind != b"hash" or not isinstance(record, list):
        return None
    values = dict(zip(_FIELDS, record, strict=True))
    fields = {name: text(value) for name, value in values.items() if value is not None}
    state = _STATES.get(fields.get("status", ""), "queued")
    error, result = _outcome(job_id, results, connection) if state in ENDED else ("", None)
    progress = mapping(values["meta"] or b"") if state == "started" else {}
    phase = progress.get("phase")
    return JobStatus(
        id=job_id,
        state=state,
        lane=fields.get("origin", ""),
        phase=phase if phase in ("loading", "rendering", "delivering") else None,
        step=count(progress.get("step")),
        steps=count(progress.get("steps")),
        each=seconds(progress.get("each")),
        attempt=count(fields.get("kiln_attempts")),
        held=state == "queued" and fields.get("kiln_held") == "1",
        worker=fields.get("worker_name", ""),
        unheeded=tuple(name for name in fields.get("kiln_unheeded", "").split(",") if name),
        error=error,
        submitted_at=fields.get("enqueued_at", ""),
        started_at=fields.get("started_at", ""),
        ended_at=fields.get("ended_at", ""),
        result=result,
        suspicious=doubts_in(fields.get("kiln_suspicious", "")) if state == "finished" else (),
        off_recipe=plain(str(progress.get("off_recipe", "")))[:MAX_TEXT],
    )


def _outcome(job_id: str, results: Any, connection: redis.Redis) -> tuple[str, Result | None]:
    """The error line and the returned value of the latest result."""
    if not isinstance(results, list) or not results:
        return "", None
    try:
        key, payload = results[0]
        packed = base64.b64decode(payload.pop(b"exc_string", b""))  # RQ would inflate it without a limit
        told = zlib.decompressobj().decompress(packed, MAX_ERROR).strip().splitlines()
        latest = RQResult.restore(job_id, key.decode(), payload, connection, serializer=JSONSerializer)
    except Exception as error:  # whatever lies there was not written by a worker of ours
        return f"its result cannot be read ({type(error).__name__})", None
    value: Any = latest.return_value
    last = text(told[-1]) if told else ""
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in _RESULT):
        return last, None
    return last, Result(*(plain(value[key])[:MAX_TEXT] for key in _RESULT))
