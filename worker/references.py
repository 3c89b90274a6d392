"""The reference pictures of jobs: fetched from this farm's bucket by content hash, checked, and kept."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from PIL import Image

from jobs.errors import SpecError
from jobs.pictures import MAX_BYTES, read_picture
from jobs.spec import RenderSpec
from jobs.storage import Bucket, CorruptObjectError, reference_key

KEPT = 512 * 2**20  # bytes of decoded pictures


class References:
    """A bounded cache of decoded pictures before the bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._kept: OrderedDict[str, Image.Image] = OrderedDict()

    def of(self, spec: RenderSpec) -> Sequence[Image.Image]:
        """The pictures a spec names, RGB, in its order.

        Raises SpecError for one that is missing, is not what its name says or is no picture, and
        StorageAwayError where the bucket does not answer.
        """
        return [self._one(spec.client, name, f"references.{i}") for i, name in enumerate(spec.references)]

    def _one(self, client: str, name: str, field: str) -> Image.Image:
        key = reference_key(client, name)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        try:
            body = self._bucket.get(key, limit=MAX_BYTES)
        except CorruptObjectError as error:
            raise SpecError(field, str(error)) from None
        if body is None:
            raise SpecError(
                field, f"{key} is not in the bucket; upload it with Kiln.upload or `kiln submit --ref`"
            )
        if hashlib.sha256(body).hexdigest() != name:
            raise SpecError(field, f"{key} is not the file its name says")
        picture = read_picture(body, field)
        self._kept[key] = picture
        while sum(_size(one) for one in self._kept.values()) > KEPT and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return picture


def _size(picture: Image.Image) -> int:
    return picture.width * picture.height * 3
