"""Whether the bucket takes what a worker delivers and what a producer uploads: tried, and taken out again."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import KilnError, StorageRefusedError
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.commands.doctor.finding import Finding

WORKER, PRODUCER = "deploy/s3-worker.json", "deploy/s3-producer.json"
KIND = "text/plain"
T = TypeVar("T")


class MissingError(Exception):
    """What these credentials cannot do: a right, by S3's name for it."""


def look_at_bucket(settings: Settings) -> list[Finding]:
    """The bucket as this machine's credentials have it, by what delivery and uploads do there."""
    try:
        bucket = Bucket.open(settings, attempts=1)
        bucket.check()
        found, lacks = [], {}
        for role, tried in (("worker", _deliver), ("producer", _upload)):
            try:
                found += tried(bucket, settings.client)
            except MissingError as error:
                lacks[role] = str(error)
    except KilnError as error:
        return [Finding.of("bucket", error)]
    answers = f"{bucket.name} at {bucket.address} answers"
    if len(lacks) == 2:
        mend = f"give them what {WORKER} names on a worker, {PRODUCER} on a producer; check KILN_CLIENT"
        return [Finding("problem", "bucket", f"{answers}, but {lacks['worker']}; {lacks['producer']}", mend)]
    if "worker" in lacks:
        mend = f"nothing on a producer's machine; on a worker's, what {WORKER} names"
        found.append(
            Finding(
                "warning",
                "bucket",
                f"a producer's rights: no worker can deliver with them: {lacks['worker']}",
                mend,
            )
        )
    return [Finding("ok", "bucket", f"{answers}; {_rights(lacks)}"), *found]


def _rights(lacks: dict[str, str]) -> str:
    if not lacks:
        return "pictures and references can be stored"
    if "producer" in lacks:
        return "pictures can be stored, references cannot (a worker's rights)"
    return "references can be stored, pictures cannot (a producer's rights)"


def _deliver(bucket: Bucket, client: str) -> list[Finding]:
    """Put, read back, replace and delete as delivery does. Raises MissingError, and what Bucket does."""
    key, right = keys.TRIED(client, secrets.token_hex(8)), f"in jobs/{client}/"
    _may(lambda: bucket.delete(key), f"s3:DeleteObject {right}")  # before there is anything to leave there
    _may(lambda: bucket.put(key, b"first", KIND, if_absent=True), f"s3:PutObject {right}")
    try:
        first = _may(lambda: bucket.head(key), f"s3:GetObject {right}")
        if first is None or bucket.get(key) != b"first":
            return [Finding("problem", "bucket", "gives back another object than was put", "see its log")]
        kept = not bucket.put(key, b"second", KIND, if_absent=True)
        bucket.put(key, b"third", KIND, replace=first.etag)
        kept = kept and not bucket.put(key, b"fourth", KIND, replace=first.etag)
    finally:
        bucket.delete(key)
    _may(lambda: bucket.get(keys.TRIED_REFERENCE(client)), f"s3:GetObject in refs/{client}/")
    if kept and not bucket.unconditional:
        return []
    how = "answers 501 to" if bucket.unconditional else "ignores"
    return [
        Finding(
            "warning",
            "bucket",
            f"{how} conditions on writes: of two workers that write at once the later wins",
            "docs/guarantees.md says what that means; a store with If-None-Match and If-Match keeps more",
        )
    ]


def _upload(bucket: Bucket, client: str) -> list[Finding]:
    """Put a reference, and read where pictures lie, as producers do. Raises as _deliver."""
    key = keys.TRIED_REFERENCE(client)
    _may(lambda: bucket.put(key, b"kiln doctor was here", KIND), f"s3:PutObject in refs/{client}/")
    _may(lambda: bucket.get(key), f"s3:GetObject in refs/{client}/")
    return []


def _may(act: Callable[[], T], right: str) -> T:
    try:
        return act()
    except StorageRefusedError as error:
        if "AccessDenied" not in str(error) and "(403)" not in str(error):
            raise
        raise MissingError(f"without {right}") from None
