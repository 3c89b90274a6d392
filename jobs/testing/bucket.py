"""A bucket in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pixelkiln.jobs.errors import StorageAwayError
from pixelkiln.jobs.storage.bucket import Stored


class MemoryBucket:
    """See Objects."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False

    def head(self, key: str) -> Stored | None:
        """What lies at `key`, if anything."""
        body = self.get(key)
        if body is None:
            return None
        return Stored(len(body), f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')

    def get(self, key: str) -> bytes | None:
        """The object at `key`, or None."""
        if self.away:
            raise StorageAwayError("the bucket in memory is away, as the test wants it")
        return self.objects.get(key)

    def stream(self, key: str, first: int = 0, last: int | None = None) -> tuple[int, Iterator[bytes]] | None:
        """The object at `key`, or None."""
        body = self.get(key)
        end = None if last is None else last + 1
        return None if body is None else (len(body), iter([body[first:end]]))

    def put(self, key: str, body: bytes, content_type: str, *, if_absent: bool = False) -> bool:
        """Store `body`; False where something lies at `key` and it was to be left."""
        if self.get(key) is not None and if_absent:
            return False
        self.objects[key] = body
        return True

    def link(self, key: str, seconds: int) -> str:
        """An address that leads nowhere."""
        return f"memory://{key}?expires={seconds}"

    def close(self) -> None:
        """Nothing is open."""
