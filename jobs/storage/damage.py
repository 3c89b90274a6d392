"""Damage that decoders pass over: they paint black or grey what is missing, and tell nobody."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator

from PIL import Image

from pixelkiln.jobs.storage.parts import Parts

SLICE = 2**14  # bytes that are unpacked at once
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_MORE = b"\x55" * 512  # what a JPEG's decoder goes on with where data is missing


def check(found: Parts) -> None:
    """Raise ValueError where a PNG or a JPEG does not hold all its pixels."""
    if found.format == "PNG":
        _check_png(found.body)
    elif found.format == "JPEG":
        _check_jpeg(found.body, 8 if found.scans == 1 else 2)


def _check_png(body: bytes) -> None:
    """Its data must unpack to all rows, with a checksum that holds."""
    unpack, missing = zlib.decompressobj(), _rows(body[16:29])
    try:
        for piece in _data(body):
            while piece and missing > 0:
                missing -= len(unpack.decompress(piece, 4 * SLICE))
                piece = unpack.unconsumed_tail
    except zlib.error:
        raise ValueError("the file is damaged: its data does not unpack") from None
    if missing > 0:
        raise ValueError("the file is damaged: rows are missing")


def _data(body: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(body):
        end = at + 8 + int.from_bytes(body[at : at + 4], "big")
        if body[at + 4 : at + 8] == b"IDAT":
            yield from (body[first : min(first + SLICE, end)] for first in range(at + 8, end, SLICE))
        at = end + 4


def _rows(header: bytes) -> int:
    """Bytes of all rows with their filters, by IHDR."""
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (0, 4))
    bits = header[8] * _CHANNELS.get(header[9], 1)
    passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            total += max(rows, 0) * (1 + -(-columns * bits // 8))
    return total


def _check_jpeg(body: bytes, part: int) -> None:
    """A decoder that has all data does not look at what follows it: with more there, nothing changes."""
    if _small(body, part) != _small(body[:-2] + _MORE + body[-2:], part):
        raise ValueError("the file is damaged: rows are missing")


def _small(body: bytes, part: int) -> bytes:
    """The picture with sides so many times smaller, which takes the decoder less of the time and memory."""
    with Image.open(io.BytesIO(body), formats=["JPEG"]) as image:
        image.draft(None, (max(1, image.width // part), max(1, image.height // part)))
        return hashlib.sha256(image.tobytes()).digest()
