"""A picture and its sidecar into the bucket: both or, to whoever looks, neither; and one pair a job.

A worker may be frozen between any two requests while another takes its job over and stores its own picture,
and a request may arrive long after its sender has given up. So every write names what lay at its key when
this worker looked, and it looked before it asked whether the job is still its own: had another owner written
since, the condition fails. (A server that ignores conditions leaves the time between the two to luck.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pydantic import ValidationError

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import CorruptObjectError, StorageAwayError
from pixelkiln.jobs.known import same_job
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.storage.bucket import Bucket, Stored

TRIES = 4  # looks at what another has just written, before it counts as trouble


class NotOursError(Exception):
    """The job is another worker's, or has ended."""


class Pair:
    """The two objects of the job that `draft` is of. `ours` asks Redis whether it is still this worker's."""

    def __init__(self, bucket: Bucket, draft: Sidecar, ours: Callable[[], bool]) -> None:
        self._bucket = bucket
        self._draft = draft
        self._ours = ours
        self._sent: dict[str, bytes] = {}  # what was put here, by key: it may have arrived
        self.picture = draft.png.key
        self.sidecar = keys.SIDECAR(draft.spec.client, draft.job.id)

    def commit(self, png: bytes, describe: Callable[[], Sidecar]) -> Sidecar:
        """Store both, the sidecar last, each read back; the record that the bucket holds now.

        That may be one which an earlier owner had committed, if its picture is there too, and its client has
        not asked for another. `describe` is called when the picture is in the bucket. May be called again at
        any point.
        Raises SpecError where a whole pair there is of another spec, NotOursError, StorageAwayError,
        StorageRefusedError.
        """
        for _ in range(TRIES):
            seen = self._bucket.head(
                self.picture
            )  # first: it was there before the sidecar that is looked for
            there = self._bucket.head(self.sidecar)
            if there is not None and (before := self._committed()) is not None:
                same_job(self._draft.job.id, self._draft.spec, before.spec)
                if not self._replaceable(before):
                    return before
            if not self._place(png, seen):
                continue
            record = describe()
            body = record.model_dump_json(indent=1).encode()
            if self._put(self.sidecar, body, "application/json", there.etag if there else None):
                if self._bucket.get(self.sidecar) != body:
                    raise StorageAwayError(f"{self.sidecar} does not read back as it was written")
                return record
        raise StorageAwayError(f"{self.sidecar} and its picture are written by others again and again")

    def withdraw(self) -> None:
        """Take out what was put here, the sidecar first: without it the picture is none."""
        for key in (self.sidecar, self.picture):
            there = self._bucket.head(key)
            if there is None:
                continue
            if key not in self._sent or self._bucket.get(key) != self._sent[key]:
                return  # another's
            self._bucket.delete(key, seen=there.etag)

    def _committed(self) -> Sidecar | None:
        """The record in the bucket, if it can be read and its picture is the one beside it."""
        body = self._bucket.get(self.sidecar)
        try:
            record = Sidecar.model_validate_json(body or b"")
        except ValidationError:
            return None
        png = self._bucket.get(record.png.key) if record.png.key == self.picture else None
        whole = png is not None and hashlib.sha256(png).hexdigest() == record.png.sha256
        return record if whole else None

    def _replaceable(self, before: Sidecar) -> bool:
        """Whether its client wants that execution's picture replaced (`kiln retry --again`).

        The word lies in the bucket, where a producer may write for its own client only.
        """
        key = keys.AGAIN(self._draft.spec.client, self._draft.job.id)
        try:
            return self._bucket.get(key, limit=256) == before.job.execution.encode()
        except CorruptObjectError:
            return False

    def _place(self, png: bytes, seen: Stored | None) -> bool:
        """Put the picture where none was seen, or over an uncommitted one; False where another came."""
        etag = f'"{hashlib.md5(png, usedforsecurity=False).hexdigest()}"'
        same = seen is not None and seen.etag == etag
        if not (same or self._put(self.picture, png, "image/png", seen.etag if seen else None)):
            return False
        if self._bucket.get(self.picture) != png:
            raise StorageAwayError(f"{self.picture} does not read back as it was written")
        return True

    def _put(self, key: str, body: bytes, content_type: str, seen: str | None) -> bool:
        """Write if `key` still holds what was `seen`; False where it does not."""
        if not self._ours():
            raise NotOursError
        self._sent[key] = body
        return self._bucket.put(key, body, content_type, if_absent=seen is None, replace=seen)
