"""What is kept no longer: references and manifests that nothing needs, and pictures where it was said.

It looks at every job and at all of the bucket, so it wants an operator's credentials (docs/retention.md).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import redis

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import NoSuchJobError, NotReadyError, UsageError
from pixelkiln.jobs.spec import MAX_WIRE
from pixelkiln.jobs.storage.bucket import Bucket, Listed

LEAST = timedelta(days=1)  # what is younger may be of a job that is submitted, or delivered, just now
PAGE = 1000  # records in one round trip
Kind = Literal["references", "permits", "manifests", "pictures", "thumbnails"]

_SHA256 = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_REFERENCE = re.compile(r"refs/([^/]+)/([0-9a-f]{64})")
_AGAIN = re.compile(r"refs/([^/]+)/again-([^/]+)")
_MANIFEST = re.compile(r"batches/([^/]+)/([^/]+)/manifest\.jsonl")
_PICTURE = re.compile(r"jobs/([^/]+)/([^/]+)/(?:image\.png|sidecar\.json)")
_THUMBNAIL = re.compile(r"thumbnails/([^/]+)/([^/]+)/[0-9a-f]{16}\.webp")
_ENDED = {b"finished", b"failed", b"canceled", b"stopped"}


@dataclass(slots=True)
class Plan:
    """What is to be deleted, in this order, and what is left though it is old."""

    doomed: list[tuple[Kind, Listed]] = field(default_factory=list)
    needed: list[Listed] = field(default_factory=list)  # by a job that Redis knows, or a manifest that stays

    def counts(self) -> dict[Kind, tuple[int, int]]:
        """Objects and bytes of each kind."""
        found: dict[Kind, tuple[int, int]] = {}
        for kind, one in self.doomed:
            number, size = found.get(kind, (0, 0))
            found[kind] = (number + 1, size + one.size)
        return found


@dataclass(frozen=True, slots=True)
class _Manifest:
    listed: Listed
    client: str
    name: str
    ids: frozenset[str]
    references: frozenset[str]


def plan(
    connection: redis.Redis,
    bucket: Bucket,
    older: timedelta,
    *,
    now: datetime,
    batch: tuple[str, str] | None = None,
    pictures: bool = False,
) -> Plan:
    """What may go of what is older than `older`, of all or of one batch (client, name).

    References go that no job in Redis names, whatever its state, and no manifest that stays; manifests, none
    of whose jobs waits; pictures with their sidecars, if `pictures`, of jobs that do not wait; thumbnails,
    which are made anew where somebody looks.
    Raises UsageError below LEAST, NoSuchJobError for a batch that the bucket does not have, NotReadyError
    where the credentials do not suffice.
    """
    if older < LEAST:
        raise UsageError("--older: must be 1d or more: younger things may be of jobs that come just now")

    def old(one: Listed) -> bool:
        return now - one.modified > older

    def ours(client: str, name: str, names: set[str]) -> bool:
        """Whether it is what this is about: an id, or a content, is one thing within a client only."""
        return batch is None or (client == batch[0] and name in names)

    manifests = list(_manifests(bucket))
    mine = [one for one in manifests if batch in (None, (one.client, one.name))]
    if batch is not None and not mine:
        raise NoSuchJobError(f"no batch {batch[1]} of client {batch[0]!r} in the bucket")
    references = list(bucket.listing("refs/"))
    stored = list(bucket.listing("jobs/")) if pictures else []
    small = list(bucket.listing("thumbnails/"))
    waiting, named = _jobs(connection)  # last: what is listed is older than what is asked for now
    going = [one for one in mine if old(one.listed) and not one.ids & waiting]
    left = {sha for one in manifests if one not in going for sha in one.references}
    ids = {job_id for one in mine for job_id in one.ids}
    of_batch = {sha for one in mine for sha in one.references}

    found = Plan()
    for one in filter(old, references):
        if (match := _REFERENCE.fullmatch(one.key)) and ours(match[1], match[2], of_batch):
            if match[2] in named or match[2] in left:
                found.needed.append(one)
            else:
                found.doomed.append(("references", one))
        elif (match := _AGAIN.fullmatch(one.key)) and ours(match[1], match[2], ids):
            if match[2] in waiting:
                found.needed.append(one)
            else:
                found.doomed.append(("permits", one))
    for one in filter(old, small):
        if (match := _THUMBNAIL.fullmatch(one.key)) and ours(match[1], match[2], ids):
            found.doomed.append(("thumbnails", one))
    jobs: dict[tuple[str, str], list[Listed]] = {}
    for one in stored:
        if (match := _PICTURE.fullmatch(one.key)) and ours(match[1], match[2], ids):
            jobs.setdefault((match[1], match[2]), []).append(one)
    for (_, job_id), some in jobs.items():
        if all(map(old, some)):
            some.sort(key=lambda one: one.key, reverse=True)  # the sidecar, which is the commit, goes first
            if job_id in waiting:
                found.needed += some
            else:
                found.doomed += [("pictures", one) for one in some]
    found.needed += [one.listed for one in mine if old(one.listed) and one not in going]
    found.doomed += [("manifests", one.listed) for one in going]  # last: by them the rest is found again
    return found


def carry_out(connection: redis.Redis, bucket: Bucket, chosen: Plan) -> Iterator[Listed]:
    """Delete what was planned, unless it has changed since, and yield each. Raises NotReadyError."""
    for kind, one in chosen.doomed:
        there = bucket.head(one.key)
        if there is None or (there.modified and there.modified > one.modified):
            continue  # somebody was here: a reference is in use again
        if bucket.delete(one.key, seen=there.etag):
            if kind == "manifests" and (match := _MANIFEST.fullmatch(one.key)):
                connection.delete(keys.BATCH(match[1], match[2]))
                connection.zrem(keys.BATCHES(match[1]), match[2])
            yield one


def _manifests(bucket: Bucket) -> Iterator[_Manifest]:
    """Every batch's, as far as it can be read: of each line what it names."""
    for listed in bucket.listing("batches/"):
        match = _MANIFEST.fullmatch(listed.key)
        body = bucket.get(listed.key) if match else None
        if match and body is not None:
            ids = {job_id for line in body.split(b"\n") if (job_id := _id(line))}
            references = {sha.decode() for sha in _SHA256.findall(body)}  # and identities, which name nothing
            yield _Manifest(listed, match[1], match[2], frozenset(ids), frozenset(references))


def _id(line: bytes) -> str | None:
    try:
        job_id = json.loads(line)["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return job_id if isinstance(job_id, str) else None


def _jobs(connection: redis.Redis) -> tuple[set[str], set[str]]:
    """Ids of the jobs that wait or are at work, and every sha256 that a job of any state names."""
    waiting: set[str] = set()
    named: set[str] = set()
    prefix = keys.JOB.prefix.encode()
    try:
        found = connection.scan_iter(match=prefix + b"*", count=PAGE, _type="hash")
        page: list[bytes] = []
        for key in found:
            page.append(key)
            if len(page) == PAGE:
                _look(connection, page, waiting, named)
                page = []
        _look(connection, page, waiting, named)
    except redis.exceptions.NoPermissionError:
        raise NotReadyError(
            "this user may not look at every job, as kiln prune must; give the admin's in KILN_REDIS_URL, and"
            " the admin's credentials of the bucket (docs/roles.md)"
        ) from None
    return waiting, named


def _look(connection: redis.Redis, page: list[bytes], waiting: set[str], named: set[str]) -> None:
    with connection.pipeline(transaction=False) as pipe:
        for key in page:
            pipe.hget(key, "status")
            pipe.hstrlen(key, "data")
        answers = pipe.execute()
        states, sizes = answers[::2], answers[1::2]
        readable = [key for key, size in zip(page, sizes, strict=True) if size <= MAX_WIRE]  # others fail
        for key in readable:
            pipe.hget(key, "data")
        for data in pipe.execute():
            named |= {sha.decode() for sha in _SHA256.findall(_plain(data or b""))}
    for key, state in zip(page, states, strict=True):
        if state not in _ENDED:
            waiting.add(key.removeprefix(keys.JOB.prefix.encode()).decode("utf-8", "replace"))


def _plain(data: bytes) -> bytes:
    """RQ's data, which it stores packed or plain."""
    try:
        return zlib.decompressobj().decompress(data, 2 * MAX_WIRE)
    except zlib.error:
        return data
