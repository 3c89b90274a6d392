"""The reference pictures of jobs: fetched from this farm's bucket by content hash, checked, and kept."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from PIL import Image

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import CorruptObjectError, SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.jobs.storage.pictures import MAX_BYTES, PIXEL, look

KEPT = 512 * 2**20  # bytes of decoded pictures


class NoRoomError(SpecError):
    """Pictures do not fit into the room that is left for them."""


class References:
    """A bounded cache of decoded pictures before the bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._kept: OrderedDict[str, Image.Image] = OrderedDict()

    def of(self, spec: RenderSpec, room: int) -> Sequence[Image.Image]:
        """The pictures a spec names, RGB, in its order; those kept of others included, within `room` bytes.

        Raises SpecError for one that is missing, is not what its name says or is no picture, NoRoomError for
        what does not fit, and StorageAwayError where the bucket does not answer.
        """
        named = [keys.REFERENCE(spec.client, name) for name in spec.references]
        self.shrink(room, named)
        for i, (key, name) in enumerate(zip(named, spec.references, strict=True)):
            if key not in self._kept:
                self._kept[key] = self._decoded(key, name, f"references.{i}", room, named)
            self._kept.move_to_end(key)
        self.shrink(min(room, KEPT), named)
        if named and self.held() > room:
            raise NoRoomError(
                "references", f"take {self.held():,} bytes; this worker has room for {room:,} (KILN_MEMORY)"
            )
        return [self._kept[key] for key in named]

    def shrink(self, size: int, wanted: Sequence[str] = ()) -> None:
        """Drop what was not used for longest until all take `size` bytes, but none that are wanted."""
        for key in [key for key in self._kept if key not in wanted]:
            if self.held() <= size:
                return
            del self._kept[key]

    def held(self) -> int:
        """Bytes of those that are kept."""
        return sum(one.width * one.height * PIXEL for one in self._kept.values())

    def _decoded(self, key: str, name: str, field: str, room: int, named: Sequence[str]) -> Image.Image:
        self.shrink(room - MAX_BYTES, named)
        file = look(self._fetched(key, name, field, max(0, room - self.held())), field)
        self.shrink(room - file.bytes_needed, named)
        left = max(0, room - self.held())
        if file.bytes_needed > left:
            width, height = file.size
            raise NoRoomError(
                field,
                f"{width} x {height} is {width * height:,} pixels; decoding them takes"
                f" {file.bytes_needed:,} bytes, this worker has {left:,} beside this render (KILN_MEMORY)",
            )
        return file.decode()

    def _fetched(self, key: str, name: str, field: str, left: int) -> bytes:
        try:
            body = self._bucket.get(key, limit=min(MAX_BYTES, left))
        except CorruptObjectError as error:
            if left < MAX_BYTES:
                raise NoRoomError(field, f"{error} beside this render (KILN_MEMORY)") from None
            raise SpecError(field, str(error)) from None
        if body is None:
            raise SpecError(
                field, f"{key} is not in the bucket; upload it with Kiln.upload or `kiln submit --ref`"
            )
        if hashlib.sha256(body).hexdigest() != name:
            raise SpecError(field, f"{key} is not the file its name says")
        return body
