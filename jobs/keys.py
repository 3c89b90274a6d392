"""Every Redis key and every object key, by what it is for. `lua` gives the scripts the same names.

RQ's own keys are here too: what stands behind them is RQ's, in RQ's form, so that its tools keep working.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

from pixelkiln.jobs.lanes import Lane

# One part of a key, as text or as the bytes that Redis gave: strangers name queues in any encoding.
Part = str | Lane


@dataclass(frozen=True, slots=True)
class Key:
    """The keys of one purpose: called with what a key is about, it gives the key."""

    template: str  # with {} for each part

    @overload
    def __call__(self, *parts: Part) -> str: ...

    @overload
    def __call__(self, *parts: bytes) -> bytes: ...

    def __call__(self, *parts: Part | bytes) -> str | bytes:
        """The key about `parts`, as text; as bytes where these are."""
        if any(isinstance(part, bytes) for part in parts):
            texts = self.template.encode().split(b"{}")
            return b"".join(
                text + part
                for text, part in zip(texts, (*parts, b""), strict=True)
                if isinstance(part, bytes)
            )
        return self.template.format(*parts)

    @property
    def prefix(self) -> str:
        """What all of them begin with."""
        return self.template.partition("{}")[0]


# RQ's records
QUEUES = "rq:queues"  # set: the keys of all queues
WORKERS = "rq:workers"  # set: the keys of workers' records
GROUPS = "rq:groups"  # set: names of groups
JOB = Key("rq:job:{}")  # hash, by job id; kiln_ fields in it are ours
QUEUE = Key("rq:queue:{}")  # list of job ids, by lane
STARTED = Key("rq:wip:{}")  # sorted set of <job>:<execution>, by lane
FINISHED = Key("rq:finished:{}")  # sorted sets of job ids, by lane
FAILED = Key("rq:failed:{}")
CANCELED = Key("rq:canceled:{}")
DEFERRED = Key("rq:deferred:{}")
SCHEDULED = Key("rq:scheduled:{}")  # by when each is due
READY = Key("rq:ready:{}")
GROUP = Key("rq:group:{}")  # set of job ids, by batch
RESULTS = Key("rq:results:{}")  # stream, by job id
EXECUTIONS = Key("rq:executions:{}")  # sorted set of execution ids, by job id
EXECUTION = Key("rq:execution:{}:{}")  # hash, by job id and execution
LIMITS = "rq:rl-keys"  # set: names of limits that producers set on how many jobs run at once
LIMIT = Key("rq:rl:{}")  # hash: concurrency, by name
PLACES = Key("rq:rl:{}:allowed")  # sorted sets of job ids: let through, and waiting for a place
LIMITED = Key("rq:rl:{}:rate_limited")
WORKER = Key("rq:worker:{}")  # hash, by worker
WORKER_EXECUTIONS = Key("rq:worker:{}:executions")  # set of <job>:<execution>, by worker

# Who owns a job, and what its client was given
OWNER = Key("kiln:own:{}")  # the execution that owns a job
LEASES = "kiln:leases"  # sorted set <job>:<execution> by the server's time at which the lease runs out
BLAME = Key("kiln:blame:{}")  # hash, by job: crashes and lapses, of workers that rendered it
ACCOUNT = Key("kiln:execution:{}:{}")  # hash, by job and execution: what it cost, if it is rendered
STRAYS = "kiln:strays"  # hash <client>:<job> -> when its last execution ended unsettled, and which did
SWEEPS = "kiln:sweeps"  # sorted set: the same names by the server's time at which the bucket is looked at
TAKEN = Key("kiln:taken:{}")  # the job that an execution took, so that a take repeated finds it again
CLOCKS = "kiln:clocks"  # hash client -> GPU seconds it was given
NOW = "kiln:now"  # the clock of the last job taken
BELL = Key("kiln:bell:{}")  # list that idle workers wait on, by model

# Where jobs wait, by the order they are taken in: derived from RQ's lists by worker/queue/lua/index.lua
MAIL = "kiln:mail"  # list: lanes that a take shall look at; all that producers write of these
MOVED = "kiln:moved"  # list: clients whose clock changed, so that they may come earlier
KINDS = "kiln:kinds"  # sorted set: kinds served, and kind>bytes of jobs left -> when that was last seen
LEVEL = Key("kiln:level:{}:{}")  # sorted set client -> its first job's age, by kind and priority: least time
AHEAD = Key("kiln:ahead:{}:{}")  # sorted set client -> clock, by kind and priority: those that had more
DUE = "kiln:due"  # sorted set: lane of jobs left to larger workers -> when its first is looked at anew
EARLY = Key("kiln:early:{}")  # sorted set: ids whose record is not there yet -> when that was seen, by lane
LOOKED = "kiln:looked"  # expires: a worker has looked through the queues for what it was not told of
LOOKED_WHOLE = "kiln:looked:whole"  # expires: and at those that it knows
RECOVERED = "kiln:recovered"  # expires: a worker has looked for dependents left half-way

# What admins order, and what workers tell
ORDERS = "kiln:orders"  # hash: what an order is about -> the order, signed
SEALS = "kiln:orders:seals"  # hash: what an order is about -> what binds it to this farm
FARM = "kiln:farm"  # this farm's identity, drawn by the first worker or admin with the key
SERIAL = "kiln:orders:serial"  # changes with every order, so that a take can tell that its orders are stale
CALLS = "kiln:calls"  # channel: workers shall look
EVENTS = "kiln:events"  # channel: what happens to jobs
# By client, too: whose a job is RQ's records say, which any producer may write.
PREVIEW = Key("kiln:preview:{}:{}")  # WebP, by client and job id

# What is told to the addresses of KILN_WEBHOOKS
ENDS = (
    "kiln:ends"  # stream of {job}: who ended; there only where a worker tells, so that others need no setting
)
TELLER = "kiln:teller"  # expires: the worker that tells
TOLD = Key("kiln:told:{}:{}")  # by client and batch: which end of it was told last
OUTBOX = Key("kiln:outbox:{}")  # hash event -> what is to be sent, by address
OUTBOX_DUE = Key("kiln:outbox:{}:due")  # sorted set: the same events by when each is to be sent
TELLING = "kiln:telling"  # hash <address>:<outcome> -> how often

# Batches, as producers keep them
BATCH = Key("kiln:batch:{}:{}")  # hash, by client and name: manifest, revision, what workers foresee
BATCHES = Key("kiln:batches:{}")  # sorted set of names by when each was first submitted, by client
DEADLINES = "kiln:deadlines"  # sorted set <client>:<name> of batches by when a worker looks at them next

DEADLINES = "kiln:deadlines"  # sorted set <client>:<name> of batches by when a worker looks at them next
TELLING = "kiln:telling"  # hash <address>:<outcome> -> how often webhooks were told, failed, dropped

# What clients ask for over HTTP
ASKED = Key("kiln:asked:{}:{}")  # expires: digest of a request, by client and its Idempotency-Key's digest

# What `kiln doctor` tries its rights on; gone when it is done
TRIAL = Key("rq:trial:{}")
TRIAL_OWN = Key("kiln:trial:{}")

# Objects in the bucket
PICTURE = Key("jobs/{}/{}/image.png")  # by client and job id
SIDECAR = Key("jobs/{}/{}/sidecar.json")
REFERENCE = Key("refs/{}/{}")  # by client and the content's sha256
AGAIN = Key("refs/{}/again-{}")  # by client and job id: the execution whose picture may be replaced
MANIFEST = Key("batches/{}/{}/manifest.jsonl")  # by client and name of a batch
THUMBNAIL = Key("thumbnails/{}/{}/{}.webp")  # by client, job id and the picture's sha256, as far as 16 digits
PROBE = Key("jobs/{}/none")  # nobody stores it; producers and workers alike may ask for it
TRIED = Key("jobs/{}/trial-{}")  # by client and a word; doctor puts it there and deletes it
TRIED_REFERENCE = Key("refs/{}/trial")  # by client; stays, since producers may not delete


def lua() -> str:
    """The Redis keys as a Lua table: `key.QUEUES` is text, `key.JOB(id)` a call."""
    lines = ["local key = {}"]
    for name, value in globals().items():
        if name.isupper() and isinstance(value, str):
            lines.append(f"key.{name} = '{value}'")
        elif isinstance(value, Key) and ":" in value.template:
            first, *rest = value.template.split("{}")
            parts = [f"p{number}" for number in range(len(rest))]
            text = "".join(f" .. {part} .. '{after}'" for part, after in zip(parts, rest, strict=True))
            lines.append(f"function key.{name}({', '.join(parts)}) return '{first}'{text} end")
    return "\n".join(lines) + "\n"
