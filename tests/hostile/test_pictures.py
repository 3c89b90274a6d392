"""Picture files bent at random, where a stranger's are first read: each is a picture, or one clear line."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL.TiffImagePlugin import IFDRational

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.storage.pictures import read_picture
from tests.jobs.storage.test_pictures import KINDS, coloured, exif, saved, segment, with_chunk

EACH = 150  # mutants of a file
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

ABOUT = exif(6)  # of every type that EXIF has
ABOUT.update(
    {0x010F: "maker", 0x011A: IFDRational(72), 0x0128: 2, 0x9286: b"comment", 0x9204: IFDRational(-1, 3)}
)
ABOUT.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 15.5), 29: "2026:11:26"})
FILES = {
    **KINDS,
    **{
        f"{kind} told": saved(
            coloured().convert("RGB"), kind, exif=ABOUT, icc_profile=bytes(200), dpi=(72, 72)
        )
        for kind in ("PNG", "JPEG", "WEBP")
    },
}

Bend = Callable[[random.Random, bytearray], None]


def flip(draw: random.Random, body: bytearray) -> None:
    for _ in range(draw.randint(1, 8)):
        body[draw.randrange(len(body))] = draw.randrange(256)


def early(draw: random.Random, body: bytearray) -> None:
    """Headers come first."""
    body[draw.randrange(min(120, len(body)))] = draw.randrange(256)


def number(draw: random.Random, body: bytearray) -> None:
    """A length, a count, an offset that is as wrong as can be."""
    kind = draw.choice(["<H", ">H", "<I", ">I"])
    at = draw.randrange(len(body) - 4)
    struct.pack_into(kind, body, at, draw.choice(EXTREMES) & (0xFFFF if kind.endswith("H") else 0xFFFFFFFF))


def cut(draw: random.Random, body: bytearray) -> None:
    del body[draw.randrange(8, len(body)) :]


def drop(draw: random.Random, body: bytearray) -> None:
    at = draw.randrange(8, len(body))
    del body[at : at + draw.randint(1, 40)]


def repeat(draw: random.Random, body: bytearray) -> None:
    at = draw.randrange(8, len(body))
    body[at:at] = body[at : at + draw.randint(1, 60)] * draw.randint(1, 4)


BENDS: list[Bend] = [flip, early, number, cut, drop, repeat]


def summed(body: bytearray) -> None:
    """Give a PNG's chunks the checksums that hold, so that what is in them is read."""
    at = 8
    while body.startswith(b"\x89PNG") and at + 12 <= len(body):
        end = at + 8 + int.from_bytes(body[at : at + 4], "big")
        if end + 4 > len(body):
            return
        struct.pack_into(">I", body, end, zlib.crc32(body[at + 4 : end]))
        at = end + 4


@pytest.mark.parametrize("kind", FILES)
def test_any_file_is_a_picture_or_one_line(kind: str) -> None:
    draw = random.Random(kind)
    for _ in range(EACH):
        body = bytearray(FILES[kind])
        for bend in draw.choices(BENDS, k=draw.randint(1, 3)):
            if len(body) > 16:
                bend(draw, body)
        summed(body)
        judge(bytes(body))


def test_any_exif_is_read_or_left() -> None:
    draw, plain = random.Random(1), KINDS["jpeg 1"]
    for _ in range(1500):
        body = bytearray(ABOUT.tobytes())
        for bend in draw.choices([flip, early, number, drop], k=draw.randint(1, 2)):
            bend(draw, body)
        judge(plain[:2] + segment(0xE1, bytes(body)) + plain[2:])
        judge(with_chunk(b"eXIf", bytes(body)[6:]))


def judge(data: bytes) -> None:
    try:
        picture = read_picture(data, "references.0")
    except SpecError as error:
        told = str(error)
        assert told.startswith("references.0: ")
        assert told.isprintable()
        assert len(told) < 250
    else:
        assert picture.mode == "RGB"
        assert picture.size[0] * picture.size[1] * 3 == len(picture.tobytes())
