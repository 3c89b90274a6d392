"""What a picture file is made of: enough of each format to hand a decoder the picture alone.

Text, previews and further frames are left out, since decoders unpack them, and a small file may hold
gigabytes or a million of them. What is read of them is which way up the picture is, and its colour profile.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from pixelkiln.jobs.storage import profiles
from pixelkiln.jobs.storage.exif import MAX_BESIDE, inflated, is_adobe_rgb, orientation, raw_profile
from pixelkiln.jobs.storage.parts import MAX_PARTS, ForeignError, Parts
from pixelkiln.jobs.storage.tiff import tiff

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # none of those within a scan's data
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_PROFILE = b"Raw profile type exif\0"
_ICC = b"ICC_PROFILE\0"
_PNG_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_COLOURS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")


def parts(data: bytes) -> Parts | None:
    """What the file holds; None for another format.

    Raises ValueError where it is cut or malformed, and ForeignError for a format that only looks like ours.
    """
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    return next((read(data) for magic, read in _FORMATS if data.startswith(magic)), None)


def _png(data: bytes) -> Parts:
    view, exif, xmp, header, more = memoryview(data), b"", b"", b"", ""
    colours: dict[bytes, bytes] = {}
    kept: list[bytes | memoryview] = [view[:8]]
    for kind, at, end in _chunks(data, 8, "big"):
        if kind in _PNG_PICTURE:
            if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise ValueError(f"the file is damaged: the checksum of {kind.decode()} is wrong")
            header = header or data[at + 8 : end - 4]
            kept.append(_key(header, data[at + 8 : end - 4]) if kind == b"tRNS" else view[at:end])
        elif kind in _PNG_COLOURS:
            colours.setdefault(kind, data[at + 8 : min(end - 4, at + 8 + profiles.MAX_PROFILE)])
        elif kind == b"acTL" and int.from_bytes(data[at + 8 : at + 12], "big") > 1:
            more = "frames"
        elif kind == b"CgBI":
            raise ForeignError("is packed for iPhone apps; save it again as PNG")
        elif kind == b"eXIf":
            exif = exif or _body(data, at + 8, end - 4)
        elif kind in (b"tEXt", b"zTXt") and data.startswith(_PROFILE, at + 8):
            exif = exif or raw_profile(_body(data, at + 8 + len(_PROFILE), end - 4), kind == b"zTXt")
        elif kind == b"iTXt" and data.startswith(_PNG_XMP, at + 8):
            body = _body(data, at + 8 + len(_PNG_XMP), end - 4)
            text = body[2:].split(b"\0", 2)[-1]
            xmp = xmp or (inflated(text) if body[:1] == b"\1" else text)
        if kind == b"IEND":
            break
    else:
        raise ValueError("the file is truncated")
    if header[9:10] == b"\3" and not any(bytes(one[4:8]) == b"PLTE" for one in kept[2:3]):
        raise ValueError("the file is damaged: it has no palette")
    size = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    profile = profiles.of_chunks(colours)
    return Parts("PNG", b"".join(kept), size, orientation(exif, xmp), profile=profile, more=more)


def _key(header: bytes, key: bytes) -> bytes:
    """The tRNS chunk in the 8 bits that Pillow makes of other depths; of 16-bit greys as it stands."""
    depth, colour = header[8:9], header[9:10]
    values = [int.from_bytes(key[at : at + 2], "big") for at in range(0, len(key) - 1, 2)]
    if colour == b"\0" and depth in (b"\1", b"\2", b"\4") and len(values) == 1:
        key = struct.pack(">H", (values[0] % (1 << depth[0])) * 255 // ((1 << depth[0]) - 1))
        if depth == b"\1":
            key = struct.pack(">H", values[0] % 2)
    elif colour == b"\2" and depth == b"\x10" and len(values) == 3:
        key = struct.pack(">3H", *(value >> 8 for value in values))
    return struct.pack(">I", len(key)) + b"tRNS" + key + struct.pack(">I", zlib.crc32(b"tRNS" + key))


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
    view, exif, xmp, frame, at = memoryview(data), b"", b"", b"", 2
    scans: list[bytes] = []
    pieces: dict[int, bytes] = {}
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
            scans.append(body)
            after = _MARKER.search(data, at)
            at = len(data) if after is None else after.start()
        elif code == 0xE1:
            exif = exif or (body if body.startswith(b"Exif\0\0") else b"")
            xmp = xmp or (body if body.startswith(_JPEG_XMP) else b"")
        elif code == 0xE2 and body.startswith(_ICC) and len(body) > 14:
            pieces.setdefault(body[12], body[14:])
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            frame = bytes([code]) + body
        if code not in (0xFE, *range(0xE1, 0xEE), 0xEF):  # comments and applications', but JFIF's and Adobe's
            kept.append(view[start:at])
    else:
        raise ValueError(f"the file has more than {MAX_PARTS:,} segments")
    _check_scans(frame, scans)
    size = int.from_bytes(frame[4:6], "big"), int.from_bytes(frame[2:4], "big")
    profile = profiles.joined(pieces) or (profiles.adobe_rgb() if is_adobe_rgb(exif) else b"")
    whole = _coefficients(frame, scans[0] if scans else b"")
    return Parts("JPEG", b"".join(kept), size, orientation(exif, xmp), len(scans), whole, profile)


def _check_scans(frame: bytes, scans: Sequence[bytes]) -> None:
    """Raise ValueError where a part of the coefficients, or their last bits, never comes."""
    come: dict[int, int] = {}  # those of each component, as bits
    for scan in scans:
        count = scan[0] if scan else 0
        first, last, bits = scan[1 + 2 * count : 4 + 2 * count].ljust(3, b"\xff")[:3]
        if bits & 15 == 0 and first <= last < 64:
            for component in scan[1 : 1 + 2 * count : 2]:
                come[component] = come.get(component, 0) | (2 << last) - (1 << first)
    for component in frame[7 : 7 + 3 * (frame[6] if len(frame) > 6 else 0) : 3]:
        if come.get(component) != 2**64 - 1:
            raise ValueError("the file is truncated: it lacks a scan")


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
    view, exif, xmp, profile, frames, size = memoryview(data), b"", b"", b"", 0, (0, 0)
    kept: list[bytes | memoryview] = [b"RIFF", b"", b"WEBP"]
    for kind, at, end in _chunks(data, 12, "little"):
        body = data[at + 8 : at + 18]
        if kind == b"VP8X":
            flags = bytes(one & 0x12 for one in body[:1])  # animation and alpha
            kept += [view[at : at + 8], flags, view[at + 9 : end]]
            sides = (int.from_bytes(body[first : first + 3], "little") + 1 for first in (4, 7))
            size = (next(sides), next(sides))
        elif kind in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM") or (kind == b"ANMF" and not frames):
            kept.append(view[at:end])
            size = size if size != (0, 0) else _webp_size(kind, body)
        elif kind == b"EXIF":
            exif = exif or _body(data, at + 8, end)
        elif kind == b"XMP ":
            xmp = xmp or _body(data, at + 8, end)
        elif kind == b"ICCP":
            profile = profile or profiles.sound(data[at + 8 : min(end, at + 8 + profiles.MAX_PROFILE)])
        frames += kind == b"ANMF"
    kept[1] = struct.pack("<I", sum(map(len, kept[2:])))
    more = "frames" if frames > 1 else ""
    return Parts("WEBP", b"".join(kept), size, orientation(exif, xmp), profile=profile, more=more)


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    """Width and height of a bitstream: 14 bits each."""
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def _gif(data: bytes) -> Parts:
    """The first frame with its palette and key, on a canvas of the file's size."""
    width, height, packed = struct.unpack_from("<HHB", data.ljust(13, b"\0"), 6)
    at = 13 + (6 << (packed & 7) if packed & 0x80 else 0)
    kept, count, covers = [data[:at]], 0, (0, 0, width, height)
    for _ in range(MAX_PARTS):
        if data[at : at + 1] == b",":
            local = data[at + 9 : at + 10] or b"\0"
            end = _blocks(data, at + 11 + (6 << (local[0] & 7) if local[0] & 0x80 else 0))
            count += 1
            if count > 1:
                break
            kept.append(data[at:end])
            left, top, across, down = struct.unpack_from("<4H", data, at + 1)
            covers = (left, top, left + across, top + down)
        elif data[at : at + 1] == b"!":
            end = _blocks(data, at + 2)
            if data[at + 1 : at + 2] == b"\xf9" and not count:  # the key
                kept[1:] = [data[at:end]]
        else:
            break
        at = end
    else:
        raise ValueError(f"the file has more than {MAX_PARTS:,} blocks")
    if not count:
        raise ValueError("the file is truncated")
    more = "frames" if count > 1 else ""
    return Parts("GIF", b"".join(kept) + b";", (width, height), covers=covers, more=more)


def _blocks(data: bytes, at: int) -> int:
    """Where a row of blocks ends, each with its length before it."""
    while at < len(data):
        length = data[at]
        at += 1 + length
        if length == 0:
            return at
    raise ValueError("the file is truncated")


def _bmp(data: bytes) -> Parts:
    """Nothing lies beside the picture but a profile that hardly anybody writes."""
    header = int.from_bytes(data[14:18], "little")
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data.ljust(26, b"\0"), 18)
    size = abs(width), abs(height)
    packed = header > 12 and data[30:34] in (
        b"\1\0\0\0",
        b"\2\0\0\0",
    )  # in runs, which Pillow unpacks in memory
    return Parts("BMP", data, size, whole=3 * size[0] * size[1] if packed else 0)


_FORMATS: tuple[tuple[bytes, Callable[[bytes], Parts]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"II*\0", tiff),
    (b"MM\0*", tiff),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"BM", _bmp),
)
