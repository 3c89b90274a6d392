"""Which way up a picture is, as its EXIF or XMP tells: read without unpacking anything else of them."""

from __future__ import annotations

import re
import zlib
from typing import Literal

Order = Literal["big", "little"]

MAX_BESIDE = 2**20  # bytes that are looked at of what is no picture
ORIENTATION = 0x0112  # EXIF's tag
_EXIF, _INTEROPERABILITY = 0x8769, 0xA005  # tags of further directories
_SIZES: dict[int, int] = {1: 1, 2: 4, 3: 2, 4: 4}  # bytes of EXIF's whole numbers, by type; of short text
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def orientation(exif: bytes, xmp: bytes) -> int:
    """As EXIF counts: EXIF's, else XMP's, else 1, upright."""
    found = _XMP_ORIENTATION.search(xmp)
    return _of_exif(exif) or (int(found[1]) if found else 1)


def _of_exif(exif: bytes) -> int:
    """The orientation in the first directory; 0 where it tells none."""
    tiff, order = _tiff(exif)
    return int.from_bytes(_value(tiff, order, _number(tiff, order, 4), ORIENTATION), order)


def is_adobe_rgb(exif: bytes) -> bool:
    """Whether a camera says so by the name of its colours (DCF's R03), for want of a profile."""
    tiff, order = _tiff(exif)
    at = _number(tiff, order, 4)
    for tag in (_EXIF, _INTEROPERABILITY):
        at = int.from_bytes(_value(tiff, order, at, tag), order)
    return _value(tiff, order, at, 1) == b"R03\0"


def _tiff(exif: bytes) -> tuple[bytes, Order]:
    while exif.startswith(b"Exif\0\0"):  # some cameras write it twice
        exif = exif[6:]
    return exif, "big" if exif.startswith(b"MM") else "little"


def _number(tiff: bytes, order: Order, at: int, size: int = 4) -> int:
    return int.from_bytes(tiff[at : at + size], order)


def _value(tiff: bytes, order: Order, first: int, tag: int) -> bytes:
    """The value of a tag in the directory at `first`, if it lies in the directory itself; else none."""
    count = _number(tiff, order, first, 2) if 8 <= first < len(tiff) else 0
    for at in range(first + 2, min(first + 2 + 12 * count, len(tiff) - 11), 12):
        if _number(tiff, order, at, 2) == tag:
            return tiff[at + 8 : at + 8 + _SIZES.get(_number(tiff, order, at + 2, 2), 0)]
    return b""


def raw_profile(text: bytes, packed: bool) -> bytes:
    """EXIF as ImageMagick wrote it before PNG had a chunk for it: name, length and hexadecimal lines."""
    lines = (inflated(text[1:]) if packed else text).split(b"\n")[3:]
    try:
        return bytes.fromhex(b"".join(lines).decode("ascii"))
    except ValueError:
        return b""


def inflated(data: bytes, most: int = MAX_BESIDE) -> bytes:
    """At most so many bytes of what a zlib stream holds; none where it is no such stream."""
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return b""
