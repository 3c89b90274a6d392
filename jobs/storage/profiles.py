"""ICC profiles as bytes: which are looked at, and those of pictures that tell colours otherwise."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence

from pixelkiln.jobs.storage.parts import ForeignError

MAX_PROFILE = 4 * 2**20  # bytes; a press's has two and a half
SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}  # Pillow's modes of what a profile describes

Matrix = tuple[tuple[float, float, float], ...]
_SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white, red, green, blue: x, y
_P3_CHROMATICITIES = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
_ADOBE_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_SRGB_CURVE = struct.pack(">4sIHH", b"para", 0, 3, 0) + struct.pack(
    ">5i", *(round(65536 * value) for value in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)
_NEAR = 0.05  # of sRGB's gamma, within which no difference shows
_HDR = (16, 18)  # transfers of PQ and HLG


def sound(profile: bytes) -> bytes:
    """The profile, if it is one of ours to use; else none. Viewers leave out what is not, too."""
    size = int.from_bytes(profile[:4], "big")
    if not 132 <= size <= min(len(profile), MAX_PROFILE) or profile[36:40] != b"acsp":
        return b""
    return profile[:size] if profile[16:20] in SPACES else b""


def inflated(data: bytes) -> bytes:
    """What PNG packs of a profile: no more than its first bytes say it has."""
    try:
        unpack = zlib.decompressobj()
        head = unpack.decompress(data, 4)
        size = int.from_bytes(head, "big")
        if not 132 <= size <= MAX_PROFILE:
            return b""
        return sound(head + unpack.decompress(unpack.unconsumed_tail, size))
    except zlib.error:
        return b""


def joined(pieces: Mapping[int, bytes]) -> bytes:
    """What JPEG cuts into pieces, numbered from 1."""
    if sum(map(len, pieces.values())) > MAX_PROFILE or sorted(pieces) != list(range(1, len(pieces) + 1)):
        return b""
    return sound(b"".join(pieces[number] for number in sorted(pieces)))


def of_chunks(chunks: Mapping[bytes, bytes]) -> bytes:
    """The profile of a PNG by its chunks, the most exact first, as browsers choose; none of sRGB.

    Raises ForeignError for high dynamic range, which no other tones stand for.
    """
    told = chunks.get(b"cICP", b"")
    if len(told) == 4 and told[1] in _HDR:
        raise ForeignError("has a high dynamic range (PQ, HLG); save it with the usual one (SDR)")
    if told[:2] == b"\x0c\x0d":
        return matrix(_P3_CHROMATICITIES, _SRGB_CURVE)
    if told[:2] == b"\x01\x0d":
        return b""
    name, _, packed = chunks.get(b"iCCP", b"").partition(b"\0")
    if name and (profile := inflated(packed[1:])):
        return profile
    if b"sRGB" in chunks:
        return b""
    return _of_numbers(chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b""))


def adobe_rgb() -> bytes:
    """What cameras mean that name it and write no profile."""
    return matrix(_ADOBE_CHROMATICITIES, _power(563 / 256))


def _of_numbers(gamma: bytes, chromaticities: bytes) -> bytes:
    """Of gAMA and cHRM: hundred-thousandths."""
    if len(gamma) != 4 or not 0.1 < (exponent := int.from_bytes(gamma, "big") / 100_000) < 5:
        return b""
    points = _SRGB_CHROMATICITIES
    if len(chromaticities) == 32:
        points = tuple(value / 100_000 for value in struct.unpack(">8I", chromaticities))
    plain = all(abs(one - other) < 0.005 for one, other in zip(points, _SRGB_CHROMATICITIES, strict=True))
    if plain and abs(exponent * 2.2 - 1) < _NEAR:
        return b""
    return matrix(points, _power(1 / exponent))


def matrix(points: Sequence[float], curve: bytes) -> bytes:
    """An ICC profile (version 4) of a display: x and y of white, red, green and blue, and a tone curve.

    Empty where the numbers are of no display. Arithmetic as in ICC.1:2022, annexes E and F.
    """
    try:
        white, *primaries = (
            (points[at] / points[at + 1], 1.0, (1 - points[at] - points[at + 1]) / points[at + 1])
            for at in range(0, 8, 2)
        )
        columns: Matrix = tuple(zip(*primaries, strict=True))
        shares = _times(_inverse(columns), white)
        source, target = _times(_BRADFORD, white), _times(_BRADFORD, _D50)
        adapted = [
            _times(
                _inverse(_BRADFORD),
                [
                    value * to / of
                    for value, of, to in zip(
                        _times(_BRADFORD, [part * share for part in primary]), source, target, strict=True
                    )
                ],
            )
            for primary, share in zip(primaries, shares, strict=True)
        ]
        triples = [_xyz(one) for one in adapted]
    except (ZeroDivisionError, OverflowError, struct.error):
        return b""
    tags = [(b"wtpt", _xyz(_D50)), *zip((b"rXYZ", b"gXYZ", b"bXYZ"), triples, strict=True)]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, value in tags:
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value
    head = struct.pack(">I4sI", start + len(body), b"", 0x04300000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + _xyz(_D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _power(exponent: float) -> bytes:
    return struct.pack(">4sIIH", b"curv", 0, 1, round(256 * exponent)) + b"\0\0"


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))


def _times(rows: Matrix, vector: Sequence[float]) -> list[float]:
    return [sum(one * other for one, other in zip(row, vector, strict=True)) for row in rows]


def _inverse(rows: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = rows
    cofactors = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    return tuple(tuple(value / determinant for value in row) for row in cofactors)  # type: ignore[misc]
