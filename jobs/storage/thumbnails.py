"""Small ones of finished pictures: made once, on demand, and kept in the bucket beside the others."""

from __future__ import annotations

import hashlib
import io
import logging

from PIL import Image

from pixelkiln.jobs import keys
from pixelkiln.jobs.errors import CorruptObjectError, StorageRefusedError
from pixelkiln.jobs.queue.status import Result
from pixelkiln.jobs.storage.objects import Objects
from pixelkiln.jobs.storage.pictures import MAX_BYTES, MAX_DECODED, read_picture

log = logging.getLogger("kiln.storage")

SIDE = 480  # pixels: twice what a gallery shows, for fine screens
QUALITY = 78
SMALL = 512 * 1024  # bytes: no thumbnail of ours has more


def kept(objects: Objects, client: str, job_id: str, result: Result) -> bytes | None:
    """The thumbnail of that picture, a WebP, where it was made before."""
    found = objects.get(keys.THUMBNAIL(client, job_id, result.sha256[:16]))
    return found if found and len(found) <= SMALL and found[8:12] == b"WEBP" else None


def make(objects: Objects, client: str, job_id: str, result: Result) -> bytes:
    """The same, made now and kept. Raises CorruptObjectError where the picture is not as it was stored."""
    key = keys.PICTURE(client, job_id)
    found = objects.stream(key)
    if found is None or result.png != key or found[0] > MAX_BYTES:
        raise CorruptObjectError(f"{key} is not there as it was stored")
    body = b"".join(found[1])
    if hashlib.sha256(body).hexdigest() != result.sha256:
        raise CorruptObjectError(f"{key} is not there as it was stored")
    small = smaller(body)
    try:
        objects.put(keys.THUMBNAIL(client, job_id, result.sha256[:16]), small, "image/webp")
    except StorageRefusedError as error:  # a role from before there were any: it is made again next time
        log.info("no thumbnails are kept: %s", error)
    return small


def smaller(body: bytes) -> bytes:
    """A picture's smaller one. Raises CorruptObjectError where it is none, or too large to look at."""
    try:
        with Image.open(io.BytesIO(body), formats=["PNG"]) as image:
            if image.width * image.height > MAX_DECODED:
                raise CorruptObjectError(f"a picture of {image.width} x {image.height} is not looked at")
            return _webp(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptObjectError(f"is no picture ({type(error).__name__})") from None


def of_reference(objects: Objects, client: str, name: str) -> bytes | None:
    """A reference picture's smaller one, as a model sees it; None where there is none. Raises SpecError."""
    body = objects.get(keys.REFERENCE(client, name))
    return None if body is None else _webp(read_picture(body))


def _webp(image: Image.Image) -> bytes:
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.convert("RGB").save(out, "WEBP", quality=QUALITY, method=4)
    return out.getvalue()
