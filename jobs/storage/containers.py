"""What a picture file is made of: enough of PNG, JPEG and WebP to hand a decoder the picture alone.

Text, profiles, previews and animation are left out, since decoders unpack them, and a small file may hold
gigabytes or a million of them. What is read of them is which way up the picture is.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MAX_PARTS = 65_536  # chunks or segments of a file
MAX_BESIDE = 2**20  # bytes that are looked at of what is no picture
ORIENTATION = 0x0112  # EXIF's tag
_SIZES: dict[int, int] = {1: 1, 3: 2, 4: 4}  # bytes of EXIF's whole numbers, by type

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # none of those within a scan's data
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_PROFILE = b"Raw profile type exif\0"


@dataclass(frozen=True, slots=True)
class Parts:
    """A file without what is no picture."""

    format: Literal["PNG", "JPEG", "WEBP"]
    body: bytes
    orientation: int  # as EXIF counts; 1 is upright
    scans: int = 1  # passes over the whole picture
    whole: int = 0  # bytes that a decoder holds until the last scan


def parts(data: bytes) -> Parts | None:
    """What the file holds; None for another format. Raises ValueError where it is cut or malformed."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    return None


def _png(data: bytes) -> Parts:
    view, exif, xmp = memoryview(data), b"", b""
    kept = [view[:8]]
    for kind, at, end in _chunks(data, 8, "big"):
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(view[at:end])
        elif kind == b"eXIf":
            exif = exif or _body(data, at + 8, end - 4)
        elif kind in (b"tEXt", b"zTXt") and data.startswith(_PROFILE, at + 8):
            exif = exif or _raw_profile(_body(data, at + 8 + len(_PROFILE), end - 4), kind == b"zTXt")
        elif kind == b"iTXt" and data.startswith(_PNG_XMP, at + 8):
            body = _body(data, at + 8 + len(_PNG_XMP), end - 4)
            text = body[2:].split(b"\0", 2)[-1]
            xmp = xmp or (_inflated(text) if body[:1] == b"\1" else text)
        if kind == b"IEND":
            break
    return Parts("PNG", b"".join(kept), _orientation(exif, xmp))


def _body(data: bytes, at: int, end: int) -> bytes:
    return data[at : min(end, at + MAX_BESIDE)]


def _chunks(data: bytes, at: int, order: Literal["big", "little"]) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk of a PNG (big) or a RIFF file (little)."""
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        first, second = data[at : at + 4], data[at + 4 : at + 8]
        length, kind = (first, second) if order == "big" else (second, first)
        size = int.from_bytes(length, order)
        end = at + (12 + size if order == "big" else 8 + size + size % 2)
        if at + 8 + size > len(data):
            raise ValueError("the file is truncated")
        yield kind, at, end
        at = end
    raise ValueError(f"the file has more than {MAX_PARTS:,} chunks")


def _jpeg(data: bytes) -> Parts:
    view, exif, xmp, frame, first, scans, at = memoryview(data), b"", b"", b"", b"", 0, 2
    kept = [view[:2]]
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            break
        code, start = found[0][1], found.start()
        if code == 0xD9:
            kept.append(view[start : start + 2])
            break
        at = start + 2
        if code in (0x01, 0xD8):  # without a length
            continue
        at += int.from_bytes(data[at : at + 2], "big")
        if at < start + 4 or at > len(data):
            raise ValueError("the file is truncated")
        body = data[start + 4 : at]
        if code == 0xDA:
            first, scans = first or body, scans + 1
            after = _MARKER.search(data, at)
            at = len(data) if after is None else after.start()
        elif code == 0xE1:
            exif = exif or (body if body.startswith(b"Exif\0\0") else b"")
            xmp = xmp or (body if body.startswith(_JPEG_XMP) else b"")
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            frame = bytes([code]) + body
        if code not in (0xFE, *range(0xE1, 0xEE), 0xEF):  # comments and applications', but JFIF's and Adobe's
            kept.append(view[start:at])
    else:
        raise ValueError(f"the file has more than {MAX_PARTS:,} segments")
    return Parts("JPEG", b"".join(kept), _orientation(exif, xmp), scans, _coefficients(frame, first))


def _coefficients(frame: bytes, scan: bytes) -> int:
    """Bytes of all coefficients, 16 bits each; none are held where the first scan brings whole pixels."""
    progressive = frame[:1] in (b"\xc2", b"\xc6", b"\xca", b"\xce")
    if len(frame) < 7 or not (progressive or scan[:1] < frame[6:7]):
        return 0
    height, width = (int.from_bytes(frame[at : at + 2], "big") for at in (2, 4))
    factors = [(one >> 4, one & 15) for one in frame[8 : 7 + 3 * frame[6] : 3]]
    across, down = (max([1, *sides]) for sides in zip(*factors, strict=True)) if factors else (1, 1)
    squares = -(-width // (8 * across)) * -(-height // (8 * down))
    return 128 * squares * sum(one * other for one, other in factors)


def _webp(data: bytes) -> Parts:
    view, exif, xmp, animated = memoryview(data), b"", b"", False
    kept: list[bytes | memoryview] = [b"RIFF", b"", b"WEBP"]
    for kind, at, end in _chunks(data, 12, "little"):
        if kind == b"VP8X":
            flags = bytes(one & 0x12 for one in data[at + 8 : at + 9])  # animation and alpha
            kept += [view[at : at + 8], flags, view[at + 9 : end]]
        elif kind in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM") or (kind == b"ANMF" and not animated):
            kept.append(view[at:end])
            animated = animated or kind == b"ANMF"
        elif kind == b"EXIF":
            exif = exif or _body(data, at + 8, end)
        elif kind == b"XMP ":
            xmp = xmp or _body(data, at + 8, end)
    kept[1] = struct.pack("<I", sum(map(len, kept[2:])))
    return Parts("WEBP", b"".join(kept), _orientation(exif, xmp))


def _orientation(exif: bytes, xmp: bytes) -> int:
    """EXIF's, else XMP's, else upright."""
    found = _XMP_ORIENTATION.search(xmp)
    return _of_exif(exif) or (int(found[1]) if found else 1)


def _of_exif(exif: bytes) -> int:
    """The orientation in the first directory; 0 where it tells none."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order: Literal["big", "little"] = "big" if tiff.startswith(b"MM") else "little"
    first = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[first : first + 2], order)
    for at in range(first + 2, min(first + 2 + 12 * count, len(tiff) - 11), 12):
        if int.from_bytes(tiff[at : at + 2], order) == ORIENTATION:
            size = _SIZES.get(int.from_bytes(tiff[at + 2 : at + 4], order), 0)
            return int.from_bytes(tiff[at + 8 : at + 8 + size], order)
    return 0


def _raw_profile(text: bytes, packed: bool) -> bytes:
    """EXIF as ImageMagick wrote it before PNG had a chunk for it: name, length and hexadecimal lines."""
    lines = (_inflated(text[1:]) if packed else text).split(b"\n")[3:]
    try:
        return bytes.fromhex(b"".join(lines).decode("ascii"))
    except ValueError:
        return b""


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MAX_BESIDE)
    except zlib.error:
        return b""
