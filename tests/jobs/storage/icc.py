"""Colour profiles made by hand, of each kind that cameras, screens and presses use."""

from __future__ import annotations

import struct
from collections.abc import Sequence

D50 = (0.9642, 1.0, 0.8249)
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
ADOBE = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
PROPHOTO = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))


def xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))


def power(exponent: float) -> bytes:
    return struct.pack(">4sIIH", b"curv", 0, 1, round(256 * exponent)) + b"\0\0"


def profile(space: bytes, connection: bytes, kind: bytes, tags: Sequence[tuple[bytes, bytes]]) -> bytes:
    tags = [(b"wtpt", xyz(D50)), *tags]
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, value in tags:
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI", start + len(body), b"", 0x02400000) + kind + space + connection
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + xyz(D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def of_screen(primaries: Sequence[Sequence[float]], exponent: float = 2.2) -> bytes:
    tags = [(name, xyz(one)) for name, one in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)]
    tags += [(name, power(exponent)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return profile(b"RGB ", b"XYZ ", b"mntr", tags)


def of_greys(exponent: float) -> bytes:
    return profile(b"GRAY", b"XYZ ", b"mntr", [(b"kTRC", power(exponent))])


def of_press(grid: int = 3) -> bytes:
    """A table from four inks to Lab, in which every ink is grey: no formula gives the same."""
    values: list[int] = []
    for number in range(grid**4):
        inks = [number // grid**place % grid / (grid - 1) for place in range(4)]
        values += [round(65280 * (1 - sum(inks) / 4)), 32768, 32768]
    ends = struct.pack(">2H", 0, 65535)
    table = b"mft2" + bytes(4) + bytes([4, 3, grid, 0])
    table += struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536) + struct.pack(">2H", 2, 2)
    table += 4 * ends + struct.pack(f">{len(values)}H", *values) + 3 * ends
    return profile(b"CMYK", b"Lab ", b"prtr", [(b"A2B0", table)])
