"""What strangers' picture files may be: upright RGB comes out, and no file costs more than was said."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageOps

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.storage.containers import MAX_PARTS, parts
from pixelkiln.jobs.storage.pictures import MAX_DECODED, MAX_SCANS, look, read_picture

SIDEWAYS = 6  # as EXIF counts


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = orientation
    return made


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def coloured(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Of many colours and degrees of transparency, no two corners alike."""
    across, down = Image.linear_gradient("L").rotate(90), Image.linear_gradient("L")
    bands = [across, down, across.transpose(Image.Transpose.ROTATE_180), down]
    return Image.merge("RGBA", bands).resize(size)


def deep(image: Image.Image) -> Image.Image:
    """The same greys in 16 bits: 0 and 255 become 0 and 65,535."""
    grey = image.convert("L").tobytes()
    return Image.frombytes("I;16", image.size, bytes(byte for one in grey for byte in (one, one)))


def floating(image: Image.Image) -> Image.Image:
    """The same greys from 0 to 1."""
    return image.convert("F").point(lambda value: value * (1 / 255))


def kinds(size: tuple[int, int] = (48, 32)) -> Iterator[tuple[str, bytes]]:
    """A file of every kind that is decoded in a way of its own."""
    clear = coloured(size)
    plain = clear.convert("RGB")
    few = plain.quantize(16)
    for turn in (1, SIDEWAYS):
        options: dict[str, Any] = {"exif": exif(turn), "compress_level": 1}
        yield f"png rgb {turn}", saved(plain, "PNG", **options)
        yield f"png rgba {turn}", saved(clear, "PNG", **options)
        yield f"png keyed {turn}", saved(plain, "PNG", transparency=(9, 9, 9), **options)
        yield f"png palette {turn}", saved(few, "PNG", **options)
        yield f"png clear palette {turn}", saved(few, "PNG", transparency=bytes(range(16)), **options)
        yield f"png grey {turn}", saved(plain.convert("L"), "PNG", **options)
        yield f"png grey alpha {turn}", saved(clear.convert("LA"), "PNG", **options)
        yield f"png bits {turn}", saved(plain.convert("1"), "PNG", **options)
        yield f"png deep {turn}", saved(deep(plain), "PNG", **options)
        yield f"jpeg {turn}", saved(plain, "JPEG", **options)
        yield f"jpeg grey {turn}", saved(plain.convert("L"), "JPEG", **options)
        yield f"jpeg cmyk {turn}", saved(plain.convert("CMYK"), "JPEG", **options)
        yield f"jpeg scans {turn}", saved(plain, "JPEG", progressive=True, subsampling=0, **options)
        yield f"jpeg cmyk scans {turn}", saved(plain.convert("CMYK"), "JPEG", progressive=True, **options)
        yield f"webp {turn}", saved(plain, "WEBP", method=0, **options)
        yield f"webp alpha {turn}", saved(clear, "WEBP", method=0, **options)
        yield f"webp lossless {turn}", saved(clear, "WEBP", lossless=True, method=0, quality=0, **options)
        yield f"webp animated {turn}", saved(clear, "WEBP", save_all=True, append_images=[plain], **options)
        for packed in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
            options = {"tiffinfo": {ExifTags.Base.Orientation: turn}, "compression": packed}
            yield f"tiff rgb {packed} {turn}", saved(plain, "TIFF", **options)
        options["compression"] = "tiff_lzw"
        yield f"tiff rgba {turn}", saved(clear, "TIFF", **options)
        yield f"tiff cmyk {turn}", saved(plain.convert("CMYK"), "TIFF", **options)
        yield f"tiff palette {turn}", saved(few, "TIFF", **options)
        yield f"tiff deep {turn}", saved(deep(plain), "TIFF", **options)
        yield f"tiff deep float {turn}", saved(floating(plain), "TIFF", **options)
        options["compression"] = "group4"
        yield f"tiff bits {turn}", saved(plain.convert("1"), "TIFF", **options)
    yield "gif", saved(few, "GIF")
    yield "gif clear", saved(few, "GIF", transparency=3)
    yield "gif animated", saved(few, "GIF", save_all=True, append_images=[few.rotate(180)])
    yield "bmp", saved(plain, "BMP")
    yield "bmp grey", saved(plain.convert("L"), "BMP")
    yield "bmp palette", saved(few, "BMP")
    yield "bmp bits", saved(plain.convert("1"), "BMP")


KINDS = dict(kinds())
SMALL = {"png": KINDS["png rgb 1"], "jpeg": KINDS["jpeg 1"], "webp": KINDS["webp 1"]}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_upright_rgb_on_white(kind: str) -> None:
    with Image.open(io.BytesIO(KINDS[kind])) as image:
        straight = ImageOps.exif_transpose(image)
        if "deep" in kind:  # Pillow cuts off what is beyond 8 bits
            grey = coloured().convert("RGB").convert("L")
            straight = grey.transpose(Image.Transpose.ROTATE_270) if kind.endswith("6") else grey
        if image.has_transparency_data:
            straight = straight.convert("RGBA")
            straight = Image.alpha_composite(Image.new("RGBA", straight.size, "white"), straight)
        found = read_picture(KINDS[kind])
        assert found.mode == "RGB"
        assert found.size == ((32, 48) if kind.endswith(str(SIDEWAYS)) else (48, 32))
        assert found.tobytes() == straight.convert("RGB").tobytes()


MEASURE = """
import os, resource, sys
from pathlib import Path
from pixelkiln.jobs.storage.pictures import look

def peak():
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells there is the parent's, if that held more
        return next(int(line.split()[1]) * 1024 for line in status.open() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

folder = Path(sys.argv[1])
for number in range(int(sys.argv[2])):
    child = os.fork()  # each in a process that decoded nothing yet
    if child == 0:
        small, large = (folder / f"{number}.{size}" for size in ("small", "large"))
        look(small.read_bytes()).decode()
        before = peak()
        file = look(large.read_bytes())
        file.decode()
        print(peak() - before, file.bytes_needed, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def measured(folder: Path, files: dict[str, bytes]) -> dict[str, tuple[int, int]]:
    """Bytes a process grew by at most while it decoded each, after a small one, and what was said before."""
    for number, (kind, body) in enumerate(files.items()):
        (folder / f"{number}.small").write_bytes(KINDS.get(kind) or SMALL[kind.split()[0]])
        (folder / f"{number}.large").write_bytes(body)
    command = [sys.executable, "-c", MEASURE, str(folder), str(len(files))]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    pairs = [(int(grown), int(said)) for grown, said in map(str.split, told.splitlines())]
    return dict(zip(files, pairs, strict=True))


def test_decoding_takes_what_was_said_before(tmp_path: Path) -> None:
    for kind, (grown, said) in measured(tmp_path, dict(kinds((2000, 1200)))).items():
        assert grown <= said <= 1.3 * grown + 8 * 2**20, kind


def test_a_row_as_long_as_can_be_takes_what_was_said(tmp_path: Path) -> None:
    image = Image.effect_noise((65_500, 24), 40)
    files = {
        "png": saved(image.convert("LA"), "PNG"),
        "jpeg": saved(image.convert("CMYK"), "JPEG", progressive=True),
    }
    for kind, (grown, said) in measured(tmp_path, files).items():
        assert grown <= said, kind


def test_a_bomb_is_refused_by_its_header() -> None:
    side = 9000
    assert side * side > MAX_DECODED
    bomb = saved(Image.new("1", (side, side)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(SpecError, match="81,000,000 pixels; the limit is 64,000,000"):
        read_picture(bomb)
    with pytest.raises(SpecError, match="is 70000 x 1; the limit of a side is 65,535"):
        read_picture(saved(Image.new("1", (70_000, 1)), "PNG"))


# --- which way up


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    data = saved(coloured().convert("RGB"), "PNG")
    return data[:33] + chunk(kind, body) + data[33:]


XMP = b'<x><rdf:Description tiff:Orientation="6"/></x>'
PROFILE = (
    b"\nexif\n      38\n" + b"Exif\0\0".hex().encode() + b"\n" + exif(SIDEWAYS).tobytes()[6:].hex().encode()
)


@pytest.mark.parametrize(
    "data",
    [
        with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0\0" + zlib.compress(XMP)),
        with_chunk(b"tEXt", b"Raw profile type exif\0" + PROFILE),
        with_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(PROFILE)),
        saved(coloured().convert("RGB"), "JPEG", xmp=XMP),
        saved(coloured(), "WEBP", xmp=XMP),
        with_chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0"),
        with_chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\x01\4\0\1\0\0\0\6\0\0\0"),
    ],
)
def test_orientation_is_found_wherever_it_stands(data: bytes) -> None:
    assert read_picture(data).size == (32, 48)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"MM",
        b"II*\0",
        b"MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        exif(9).tobytes(),
        exif(0).tobytes(),
    ],
)
def test_an_orientation_that_is_none_leaves_the_picture(body: bytes) -> None:
    assert read_picture(with_chunk(b"eXIf", body)).size == (48, 32)


# --- what a file may hold beside


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def repeated(count: int) -> bytes:
    """A progressive JPEG with its last scan so many times."""
    data = saved(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def test_scans_are_counted_before_any_is_decoded() -> None:
    own = parts(repeated(0))
    assert own is not None
    assert own.scans == 10
    assert read_picture(repeated(MAX_SCANS - own.scans)).size == (64, 64)
    with pytest.raises(SpecError, match="has 4,010 scans; the limit is 64"):
        read_picture(repeated(4000))


HEAVY = b"II*\0\x08\0\0\0" + struct.pack("<H", 5000)  # 5,000 tags that are each of all its bytes
HEAVY += b"".join(struct.pack("<HHII", tag, 7, 60_000, 0) for tag in range(5000))


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small pictures with what decoders would unpack, keep or walk through."""
    plain = Image.new("RGB", (32, 32))
    jpeg, png, webp = (saved(plain, kind) for kind in ("JPEG", "PNG", "WEBP"))
    ends = {"text": b"x\0\0\0\0\0", "packed": b"x\0\1\0\0\0"}
    text = "\U0001f98a".encode() * (5 * 2**20)
    packed = chunk(b"iTXt", ends["packed"] + zlib.compress(text[: 2**20])) * 60
    yield "png text", png[:33] + chunk(b"iTXt", ends["text"] + text) + png[33:]
    yield "png packed texts", png[:33] + packed + png[33:]
    yield "png profile", png[:33] + chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**26))) + png[33:]
    yield "png exif", png[:33] + chunk(b"eXIf", HEAVY + bytes(2**20)) + png[33:]
    yield (
        "png profile exif",
        png[:33] + chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"0" * 2**26)) + png[33:],
    )
    yield "png frames", png[:33] + chunk(b"acTL", struct.pack(">II", 2**31, 0)) + png[33:]
    yield "jpeg exif", jpeg[:2] + segment(0xE1, b"Exif\0\0" + HEAVY) + jpeg[2:]
    yield "jpeg many exif", jpeg[:2] + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 1000 + jpeg[2:]
    yield "jpeg profile", jpeg[:2] + segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 500 + jpeg[2:]
    yield "jpeg several", jpeg[:2] + segment(0xE2, b"MPF\0" + HEAVY[:60_000]) + jpeg[2:] + jpeg
    yield "jpeg junk", jpeg[:20] + bytes(2**24) + b"\xff" * 2**24 + jpeg[20:]
    frame = (
        b"ANMF"
        + struct.pack("<I", 16 + len(webp) - 12)
        + bytes(6)
        + b"\x1f\0\0\x1f\0\0"
        + bytes(4)
        + webp[12:]
    )
    body = (
        b"WEBPVP8X"
        + struct.pack("<I", 10)
        + b"\x02\0\0\0\x1f\0\0\x1f\0\0ANIM"
        + struct.pack("<I", 6)
        + bytes(6)
    )
    body += frame * 20_000
    yield "webp frames", b"RIFF" + struct.pack("<I", len(body)) + body
    body = webp[8:] + b"EXIF" + struct.pack("<I", len(HEAVY)) + HEAVY
    yield "webp exif", b"RIFF" + struct.pack("<I", len(body)) + body


BOMBS = dict(bombs())


def test_what_lies_beside_the_picture_is_not_unpacked(tmp_path: Path) -> None:
    for kind, (grown, said) in measured(tmp_path, BOMBS).items():
        assert read_picture(BOMBS[kind]).size == (32, 32), kind
        assert grown <= said <= 4 * len(BOMBS[kind]) + 2**23, kind


def test_a_canvas_too_large_is_refused() -> None:
    body = (
        b"WEBPVP8X"
        + struct.pack("<I", 10)
        + b"\x02\0\0\0\xff\x2f\0\xff\x2f\0"
        + KINDS["webp animated 1"][30:]
    )
    with pytest.raises(SpecError, match="12288 x 12288 is 150,994,944 pixels; the limit is"):
        look(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (KINDS["png rgb 1"][:33] + chunk(b"zzZz", b"") * MAX_PARTS, "more than 65,536 chunks"),
        (KINDS["jpeg 1"][:2] + segment(0xFE, b"") * (MAX_PARTS + 1), "more than 65,536 segments"),
        (KINDS["webp 1"][:12] + b"zzzz\0\0\0\0" * (MAX_PARTS + 1), "more than 65,536 chunks"),
        (KINDS["webp 1"][:-9], "truncated"),
        (KINDS["png rgb 1"][:-30], "truncated"),
        (KINDS["jpeg 1"][:-30], "truncated"),
    ],
)
def test_a_malformed_file_is_told_in_one_line(data: bytes, says: str) -> None:
    with pytest.raises(SpecError, match=rf"^reference\.0: the picture cannot be read: .*{says}"):
        read_picture(data, "reference.0")
