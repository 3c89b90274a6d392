"""Where the manifests of a client's batches lie: in Redis for weeks, and in the bucket for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from pixelkiln.jobs import keys
from pixelkiln.jobs.batches.manifest import Manifest
from pixelkiln.jobs.errors import NotReadyError, UsageError
from pixelkiln.jobs.queue.queue import Queue
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.storage.objects import Objects

TRIES = 100  # while others submit the same batch
UNSTORED = "unstored"  # in the header in Redis: why the bucket does not have this yet


def check_name(name: str) -> str:
    """`name` where a batch can bear it: it becomes a key and part of files' names."""
    if not isinstance(name, str) or not JOB_ID.fullmatch(name):
        raise UsageError(
            "batch name: must be 1 to 64 letters, digits, - and _, beginning with a letter or digit"
        )
    return name


class Books:
    """The manifests of one client's batches."""

    def __init__(self, queue: Queue, bucket: Callable[[], Objects], client: str) -> None:
        self._queue = queue
        self._bucket = bucket
        self.client = client

    def find(self, name: str) -> Manifest | None:
        """The batch of that name, from Redis, else from the bucket.

        Raises NotReadyError, CorruptObjectError.
        """
        found = self._queue.manifest(self.client, check_name(name))
        if found is not None:
            return self._kept(found[1], name)
        return self._stored(name)

    def newest(self, limit: int | None = None) -> Iterator[Manifest]:
        """The batches that Redis knows, the newest first; read one by one, since each may be large."""
        for name in list(self._queue.batches(self.client))[:limit]:
            if (found := self.find(name)) is not None:
                yield found

    def change(self, name: str, change: Callable[[Manifest | None], Manifest]) -> Manifest:
        """Put `change` of what is there in its place, in the bucket and in Redis.

        Of two that do so at once each sees what the other did. Where the bucket is away, Redis alone has it,
        and the next change stores it. Raises NotReadyError, CorruptObjectError.
        """
        for _ in range(TRIES):
            found = self._queue.manifest(self.client, check_name(name))
            before, away = None, ""
            if found is not None:
                before = self._kept(found[1], name)
            try:
                if before is None:
                    before = self._stored(name)
                elif UNSTORED in before.options:  # what the bucket has was not seen then
                    before = _joined(before, self._stored(name))
            except NotReadyError as error:
                away = str(error)
            after = _noted(change(before), "")
            away = away or self._store(after)
            if self._queue.put_manifest(
                self.client, name, _noted(after, away).packed(), found[0] if found else 0
            ):
                return _noted(after, away)
        raise NotReadyError(f"batch {name} is written all the time; try again")

    def _kept(self, packed: bytes, name: str) -> Manifest:
        return Manifest.unpacked(packed, keys.BATCH(self.client, name)).of_client(self.client)

    def _stored(self, name: str) -> Manifest | None:
        key = keys.MANIFEST(self.client, name)
        body = self._bucket().get(key)
        return None if body is None else Manifest.read(body, key).of_client(self.client)

    def _store(self, manifest: Manifest) -> str:
        """Put it into the bucket; why that did not work, or ''."""
        try:
            key = keys.MANIFEST(self.client, manifest.name)
            self._bucket().put(key, manifest.written(), "application/jsonl")
        except NotReadyError as error:
            return str(error)
        return ""


def _joined(manifest: Manifest, other: Manifest | None) -> Manifest:
    """The same, with the entries of another that it lacks, as those that its file has no more."""
    known = {entry.identity for entry in manifest.entries}
    more = [entry for entry in other.entries if entry.identity not in known] if other else []
    last = max((entry.number for entry in manifest.entries), default=0)
    late = [replace(entry, number=last + n, listed=False) for n, entry in enumerate(more, 1)]
    return replace(manifest, entries=(*manifest.entries, *late))


def _noted(manifest: Manifest, away: str) -> Manifest:
    options = {name: value for name, value in manifest.options.items() if name != UNSTORED}
    return replace(manifest, options=options | ({UNSTORED: away} if away else {}))
