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

from pixelkiln.jobs.errors import StorageAwayError
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.storage.bucket import Bucket

TRIES = 4  # looks at what another has just written, before it counts as trouble


class NotOursError(Exception):
    """The job is another worker's, or has ended."""


class Pair:
    """One job's two objects, by their keys. `ours` asks Redis whether the job is still this worker's."""

    def __init__(self, bucket: Bucket, *, picture: str, sidecar: str, ours: Callable[[], bool]) -> None:
        self._bucket = bucket
        self.picture = picture
        self.sidecar = sidecar
        self._ours = ours

    def commit(self, png: bytes, describe: Callable[[], Sidecar]) -> Sidecar:
        """Store both, the sidecar last, each read back; the record that the bucket holds now.

        That may be one which an earlier owner had committed, if its picture is there too. `describe` is
        called when the picture is in the bucket. May be called again at any point.
        Raises NotOursError, StorageAwayError, StorageRefusedError.
        """
        for _ in range(TRIES):
            there = self._bucket.head(self.sidecar)
            if there is not None and (before := self._committed()) is not None:
                return before
            self._place(png)
            record = describe()
            body = record.model_dump_json(indent=1).encode()
            if self._put(self.sidecar, body, "application/json", there.etag if there else None):
                if self._bucket.get(self.sidecar) != body:
                    raise StorageAwayError(f"{self.sidecar} does not read back as it was written")
                return record
        raise StorageAwayError(f"{self.sidecar} is written by others again and again")

    def delete(self) -> None:
        """Take both out of the bucket, the sidecar first: without it the picture is none."""
        self._bucket.delete(self.sidecar)
        self._bucket.delete(self.picture)

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

    def _place(self, png: bytes) -> None:
        """Put the picture where none is, or over one that was never committed."""
        etag = f'"{hashlib.md5(png, usedforsecurity=False).hexdigest()}"'
        for _ in range(TRIES):
            there = self._bucket.head(self.picture)
            same = there is not None and there.etag == etag
            if same or self._put(self.picture, png, "image/png", there.etag if there else None):
                if self._bucket.get(self.picture) != png:
                    raise StorageAwayError(f"{self.picture} does not read back as it was written")
                return
        raise StorageAwayError(f"{self.picture} is written by others again and again")

    def _put(self, key: str, body: bytes, content_type: str, seen: str | None) -> bool:
        """Write if `key` still holds what was `seen`; False where it does not."""
        if not self._ours():
            raise NotOursError
        return self._bucket.put(key, body, content_type, if_absent=seen is None, replace=seen)
