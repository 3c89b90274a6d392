"""RQ's record of a job, closed: it carries one spec for one function, and runs nothing.

RQ imports and calls whatever `func_name` and the callback fields of a job's hash name, and sends webhooks to
any URL in it. A producer chooses data, never code, so this class reads none of them.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from pixelkiln.jobs.errors import KilnError, SpecError, UsageError
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.spec import MAX_WIRE, RenderSpec

FUNCTION = "pixelkiln.render"
FUNCTIONS = (FUNCTION, "worker.tasks.render")  # the second is what producers of version 0.1 wrote
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
DAY = 86_400  # seconds
FAILURE_DAYS = 30
MAX_FOREIGN = 16 * 2**20  # bytes of another application's record, and of its arguments
MAX_FIELDS = 1000  # of such a record: the server counts the bytes of each

MAX_DEPENDENCIES = 1000

_BLANK = b"\xef\xbb\xbf \t\r\n"  # before JSON, a byte order mark among it
_COLLECTIONS = ("labels", "references", "layout")
_NAMES = ("model", "quantization", "priority", "client")

_FOREIGN = (
    "success_callback_name",
    "failure_callback_name",
    "stopped_callback_name",
    "webhooks",
    "result",
    "exc_info",
    "repeats_left",
    "repeat_intervals",
    "rate_limit_key",
    "rate_limit_concurrency",
)


def check_job_id(job_id: str) -> str:
    """`job_id` where it is one. Ids become keys and file names, so few characters are allowed."""
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise UsageError("job id: must be 1 to 64 letters, digits, - and _, beginning with a letter or digit")
    return job_id


class RenderJob(Job):
    """One render in RQ's own format. Neither reading nor performing it calls anything it names."""

    def __init__(
        self, id: str | None = None, connection: redis.Redis | None = None, serializer: Any = None
    ) -> None:
        super().__init__(id, connection=connection)
        self.serializer = JSONSerializer  # as an argument RQ would look through it anew for each of 10,000

    @classmethod
    def of(
        cls, spec: RenderSpec, job_id: str, connection: redis.Redis, *, days: int, batch: str | None
    ) -> RenderJob:
        """A new job for `spec`, remembered for `days` after it has finished."""
        job = cls.create(
            FUNCTION,
            args=[spec.wire()],
            connection=connection,
            id=job_id,
            origin=spec.lane.name,
            description=spec.prompt[:80],
            timeout=-1,  # the worker's watchdog knows steps; RQ's clock would cut a long render off
            result_ttl=days * DAY,
            failure_ttl=FAILURE_DAYS * DAY,
            group_id=batch,
        )
        assert isinstance(job, RenderJob)
        return job

    def restore(self, raw_data: Mapping[bytes, bytes]) -> None:
        """Read RQ's hash, leaving out every field that names code or an address, and inflating no bomb."""
        fields = {k: v for k, v in raw_data.items() if k.decode("utf-8", "replace") not in _FOREIGN}
        if b"data" in fields:
            fields[b"data"] = _inflate(fields[b"data"])
        super().restore(fields)

    @property
    def func(self) -> NoReturn:
        """Never: a job's function is not looked up."""
        raise KilnError("jobs of pixelkiln are rendered by `kiln worker`, not called")

    def perform(self) -> NoReturn:
        """Never: a job is not run from its record."""
        raise KilnError("jobs of pixelkiln are rendered by `kiln worker`, not performed")


class Follower(Job):
    """A job of any application that waits for one of ours: put into its queue as it is, never looked into.

    RQ writes the whole record back, so callbacks and data in another format must come through unchanged.
    """

    @classmethod
    def fetch_many(
        cls, job_ids: Iterable[str], connection: redis.Redis, serializer: Any = None
    ) -> list[Job | None]:
        """As RQ's, but a record that cannot be read, or is too large, is none: those beside it follow."""
        names = list(job_ids)
        with connection.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hlen(cls.key_for(name))
            lengths = pipe.execute(raise_on_error=False)
            pairs = zip(names, lengths, strict=True)
            few = [name for name, length in pairs if isinstance(length, int) and length <= MAX_FIELDS]
            for name in few:
                pipe.memory_usage(cls.key_for(name), samples=0)
            sizes = dict(zip(few, pipe.execute(raise_on_error=False), strict=True))
        found: list[Job | None] = []
        for name in names:
            job, size = None, sizes.get(name)
            if isinstance(size, int) and size <= MAX_FOREIGN:
                try:
                    (job,) = super().fetch_many([name], connection, serializer)
                except (redis.ConnectionError, redis.TimeoutError):
                    raise
                except Exception:  # whatever a stranger wrote
                    job = None
            found.append(job)
        return found

    def dependencies_are_met(self, *arguments: Any, **named: Any) -> bool:
        """As RQ's, but only while deferred: in a dependency cycle it may already have run.

        False where what it waits for cannot be read, or is more than can be looked at.
        """
        if self._status is not JobStatus.DEFERRED or not self._dependency_ids:
            return False
        try:
            if self.connection.scard(self.dependencies_key) > MAX_DEPENDENCIES:
                return False
            return super().dependencies_are_met(*arguments, **named)
        except (redis.ConnectionError, redis.TimeoutError, redis.WatchError):
            raise
        except Exception:  # whatever a stranger wrote
            return False

    def restore(self, raw_data: Mapping[bytes, bytes]) -> None:
        """Read RQ's hash; nothing in it is imported or unpickled. Raises SpecError for a bomb."""
        fields = {k: v for k, v in raw_data.items() if k != b"exc_info"}
        try:
            if len(zlib.decompressobj().decompress(fields.get(b"data", b""), MAX_FOREIGN + 1)) > MAX_FOREIGN:
                raise SpecError("data", f"is more than {MAX_FOREIGN:,} bytes")
        except zlib.error:
            pass  # plain
        super().restore(fields)


def read_spec(data: bytes, lane: Lane, job_id: str) -> RenderSpec:
    """What a job's `data` field asks for, checked, seed included. Raises SpecError.

    `lane` is the queue the job was taken from: a spec that belongs in another one is refused, since lanes are
    what clients and priorities are told apart by.
    """
    spec = spec_in(data)
    if spec.lane != lane:
        raise SpecError(
            "lane", f"the job waited in {lane.name[:200]!r}, its spec belongs in {spec.lane.name!r}"
        )
    return spec.with_seed(job_id)


def spec_in(data: bytes) -> RenderSpec:
    """The spec that a job's `data` field holds, wherever the job waits. Raises SpecError."""
    function, instance, arguments, named = _payload(_inflate(data))
    if function not in FUNCTIONS:
        raise SpecError("function", f"is {str(function)[:80]!r}; the only one is {FUNCTION!r}")
    if instance is not None or named or len(arguments) != 1 or not isinstance(arguments[0], dict):
        raise SpecError("arguments", "must be one object, the spec")
    return RenderSpec.parse(dict(_meant(arguments[0])))


def _meant(fields: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A spec's fields, where another language's JSON writes them otherwise and can mean one thing only.

    96.0 is 96; PHP's empty map is [], Lua's empty list {}, Go's either null; a name has no spaces around it.
    """
    for name, value in fields.items():
        if name in _COLLECTIONS and value in ([], {}, None):
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        elif name in _NAMES and isinstance(value, str):
            value = value.strip(" ")
        elif name == "references" and isinstance(value, list):
            value = [one.strip(" ") if isinstance(one, str) else one for one in value]
        yield name, value


def _payload(plain: bytes) -> list[Any]:
    """RQ's four: function name, instance, arguments, named arguments."""
    try:
        payload = json.loads(plain)
    except (ValueError, RecursionError):
        raise SpecError("spec", "the job's data is not JSON; enqueue with RQ's JSONSerializer") from None
    if not isinstance(payload, list) or len(payload) != 4 or not isinstance(payload[2], list):
        raise SpecError("spec", "the job's data is not what RQ's JSONSerializer writes")
    return payload


def _inflate(data: bytes) -> bytes:
    """The `data` field as JSON text, which RQ stores compressed or plain. Raises SpecError beyond the limit.

    What comes out begins with a bracket, so RQ, which inflates once more where it can, finds plain text.
    """
    plain = data.lstrip(_BLANK)
    if not plain.startswith(b"["):
        try:
            plain = zlib.decompressobj().decompress(data, MAX_WIRE + 1).lstrip(_BLANK)
        except zlib.error:
            plain = b""
    if len(plain) > MAX_WIRE:
        raise SpecError("spec", f"is more than {MAX_WIRE:,} bytes")
    if not plain.startswith(b"["):
        raise SpecError("spec", "the job's data is not what RQ's JSONSerializer writes")
    return plain
