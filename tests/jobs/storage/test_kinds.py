"""Files that phones, cameras, scanners and the web make: read, or named in the refusal with the way out.

And those that were damaged on the way, which decoders would pass over.
"""

from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.storage.pictures import look, read_picture
from tests.jobs.storage.test_pictures import chunk, coloured, saved

PLAIN = coloured((96, 64)).convert("RGB")
FEW = PLAIN.quantize(16)


def brand(major: bytes, *others: bytes) -> bytes:
    body = b"ftyp" + major + bytes(4) + b"".join(others)
    return struct.pack(">I", 4 + len(body)) + body + bytes(200)


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def camera(*entries: bytes, maker: bytes = b"NIKON CORPORATION\0") -> bytes:
    """A TIFF as raw files begin, its first directory as given, with the maker's name."""
    entries = (*entries, entry(271, 2, len(maker), 300))
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return head.ljust(300, b"\0") + maker + bytes(500)


THUMBNAIL = (entry(254, 4, 1, 1), entry(256, 3, 1, 16), entry(257, 3, 1, 16), entry(330, 4, 1, 250))
FOREIGN = {
    "HEIC": brand(b"heic", b"mif1", b"heic"),
    "HEIC ": brand(b"mif1", b"heic"),
    "HEIC  ": brand(b"msf1", b"hevc"),
    "AVIF": brand(b"avif", b"mif1"),
    "AVIF ": brand(b"mif1", b"avif", b"miaf"),
    r"a camera's raw file \(CR3\)": brand(b"crx ", b"isom"),
    "a film": brand(b"qt  ", b"qt  "),
    "a film ": brand(b"isom", b"mp42"),
    "a film  ": b"\0\0\0\x08wide" + bytes(100),
    "a film   ": b"RIFF" + bytes(4) + b"AVI LIST",
    "JPEG XL": b"\xff\x0a" + bytes(50),
    "JPEG XL ": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50),
    "JPEG 2000 ": b"\xff\x4f\xff\x51" + bytes(50),
    "JPEG XR": b"II\xbc\x01" + bytes(50),
    r"a camera's raw file \(CR2\)": b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + struct.pack("<H", 0) + bytes(50),
    r"a camera's raw file \(NEF\)": camera(*THUMBNAIL),
    r"a camera's raw file \(ARW\)": camera(*THUMBNAIL, maker=b"SONY\0"),
    r"a camera's raw file \(PEF\)": camera(*THUMBNAIL, maker=b"PENTAX Corporation\0"),
    "a camera's raw file;": camera(*THUMBNAIL, maker=b"Somebody\0"),
    r"a camera's raw file \(DNG\)": camera(entry(256, 3, 1, 16), entry(50_706, 1, 4, 1), maker=b"Apple\0"),
    "a camera's raw file; ": camera(entry(256, 3, 1, 16), entry(262, 3, 1, 32_803), maker=b"Someone\0"),
    r"a camera's raw file \(RAF\)": b"FUJIFILMCCD-RAW 0201FF",
    r"a camera's raw file \(ORF\)": b"IIRO\x08\0\0\0" + bytes(50),
    r"a camera's raw file \(RW2\)": b"IIU\0\x08\0\0\0" + bytes(50),
    r"a camera's raw file \(X3F\)": b"FOVb" + bytes(50),
    "BigTIFF": b"II+\0\x08\0\0\0" + bytes(50),
    r"a TIFF whose compression \(34925\)": camera(entry(256, 3, 1, 1), entry(259, 3, 1, 34_925)),
    "a Photoshop document": b"8BPS\0\1" + bytes(50),
    "a GIMP document": b"gimp xcf v011" + bytes(50),
    "PDF": b"%PDF-1.7\n",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "SVG ": b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a -->\n<!DOCTYPE svg>\n<svg/>",
    "a web page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    r"an icon \(ICO\)": b"\0\0\1\0\1\0" + bytes(50),
    r"an icon \(ICNS\)": b"icns" + bytes(50),
    "OpenEXR": b"v/1\1\2\0\0\0" + bytes(50),
    "Radiance HDR": b"#?RADIANCE\n",
    "DICOM": bytes(128) + b"DICM" + bytes(50),
    "PNM": b"P6\n2 2\n255\n" + bytes(12),
    "FITS": b"SIMPLE  =                    T",
    r"what macOS keeps beside a file \(\._NAME\)": b"\0\5\x16\7\0\2\0\0Mac OS X        ",
    r"an archive or a document \(ZIP\)": b"PK\3\4" + bytes(50),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_read_is_named_with_the_way_out(name: str) -> None:
    with pytest.raises(SpecError, match=rf"^reference\.0: is {name.strip()}.*(; |: ).{{8,}}$") as caught:
        look(FOREIGN[name], "reference.0")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty; see how it was fetched"),
        (bytes(4000), "holds nothing but zeros; see how it was fetched"),
        (b"hello", "is not a picture; PNG, JPEG, WebP, TIFF, GIF and BMP are read"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", bytes(4)), "is packed for iPhone apps; save it again as PNG"),
    ],
)
def test_what_is_no_picture_is_told(data: bytes, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        look(data)
    assert str(caught.value) == f"references: {says}"


# --- more than one picture


def pages() -> bytes:
    return saved(PLAIN, "TIFF", save_all=True, append_images=[PLAIN.rotate(180)])


MANY = {
    "frames": [
        saved(FEW, "GIF", save_all=True, append_images=[FEW.rotate(180)]),
        saved(PLAIN, "PNG", save_all=True, append_images=[PLAIN.rotate(180)]),
        saved(PLAIN, "WEBP", lossless=True, save_all=True, append_images=[PLAIN.rotate(180)]),
    ],
    "pages": [pages()],
    "": [
        saved(FEW, "GIF"),
        saved(PLAIN, "PNG"),
        saved(PLAIN, "WEBP", lossless=True),
        saved(PLAIN, "TIFF"),
        saved(PLAIN, "MPO", save_all=True, append_images=[PLAIN.rotate(180)]),  # what phones write as JPEG
    ],
}


@pytest.mark.parametrize(("more", "data"), [(more, data) for more, many in MANY.items() for data in many])
def test_the_first_of_several_is_taken_and_told(more: str, data: bytes) -> None:
    file = look(data)
    assert file.notice == (f"has more {more} than one; the first is taken" if more else "")
    found = file.decode()
    first = FEW.convert("RGB") if data.startswith(b"GIF") else PLAIN
    pairs = zip(found.tobytes(), first.tobytes(), strict=True)
    assert data.startswith(b"\xff\xd8") or all(one == other for one, other in pairs)


# --- damage


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def unpacked(rows: bytes, *, cut: int = 0, interlaced: bool = False) -> bytes:
    """A PNG of 96 x 64 in RGB whose checksums hold, whatever its rows are."""
    packed = zlib.compress(rows)
    head = struct.pack(">IIBBBBB", 96, 64, 8, 2, 0, 0, interlaced)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return data + chunk(b"IDAT", packed[: len(packed) - cut]) + chunk(b"IEND", b"")


ROWS = b"".join(b"\0" + PLAIN.crop((0, y, 96, y + 1)).tobytes() for y in range(64))
PNG, GIF, BMP = (saved(PLAIN, "PNG"), saved(FEW, "GIF"), saved(PLAIN, "BMP"))
JPEG = saved(PLAIN, "JPEG", quality=95)
SCANS = saved(PLAIN, "JPEG", quality=95, progressive=True)
LZW = saved(PLAIN, "TIFF", compression="tiff_lzw")
WEBP = saved(PLAIN, "WEBP", lossless=True)
END = b"\xff\xd9"
DAMAGED = {
    "png: a byte": flipped(PNG, PNG.index(b"IDAT") + 400),
    "png: a byte of the header": flipped(PNG, 20),
    "png: a byte of a palette": flipped(saved(FEW, "PNG"), saved(FEW, "PNG").index(b"PLTE") + 6),
    "png: cut": PNG[: len(PNG) * 2 // 3],
    "png: cut before its end": PNG[:-12],
    "png: rows missing": unpacked(ROWS[:-1000]),
    "png: the stream cut": unpacked(ROWS, cut=60),
    "png: rows of Adam7 missing": unpacked(ROWS, interlaced=True),
    "png: no stream": unpacked(b"")[:-12] + chunk(b"IEND", b""),
    "png: no palette": saved(FEW, "PNG").replace(b"PLTE", b"pLTe"),
    "jpeg: cut": JPEG[: len(JPEG) * 2 // 3],
    "jpeg: without its end": JPEG[:-2],
    "jpeg: cut and ended": JPEG[: len(JPEG) * 2 // 3] + END,
    "jpeg: a tenth missing": JPEG[: len(JPEG) * 9 // 10] + END,
    "jpeg: the middle missing": JPEG[: len(JPEG) // 2] + JPEG[len(JPEG) * 3 // 4 :],
    "jpeg: scans cut": SCANS[: len(SCANS) * 2 // 3],
    "jpeg: scans cut and ended": SCANS[: len(SCANS) * 2 // 3] + END,
    "jpeg: the last scan missing": SCANS[: SCANS.rindex(b"\xff\xda")] + END,
    "jpeg: the last scan cut": SCANS[: (len(SCANS) + SCANS.rindex(b"\xff\xda")) // 2] + END,
    "gif: cut": GIF[: len(GIF) * 2 // 3],
    "gif: blocks missing": GIF[: len(GIF) * 2 // 3] + bytes(len(GIF) // 3) + b";",
    "bmp: cut": BMP[:-300],
    "tiff: cut": LZW[: len(LZW) * 2 // 3],
    "tiff: zeros": LZW[: len(LZW) // 2] + bytes(len(LZW) // 4) + LZW[len(LZW) * 3 // 4 :],
    "webp: cut": WEBP[: len(WEBP) * 2 // 3],
    "webp: zeros": WEBP[: len(WEBP) // 3] + bytes(len(WEBP) // 3) + WEBP[len(WEBP) * 2 // 3 :],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"^reference\.0: .*; fetch it again, or save it as PNG$"):
        read_picture(DAMAGED[name], "reference.0")


@pytest.mark.parametrize(
    "data",
    [
        unpacked(ROWS),
        unpacked(ROWS, cut=4),  # without the checksum of its stream
        unpacked(ROWS + bytes(5000)),
        PNG + b"what a phone adds",
        JPEG + bytes(2000),
        saved(PLAIN, "JPEG", restart_marker_rows=1),
        saved(PLAIN.convert("CMYK"), "JPEG"),
        saved(Image.new("RGB", (96, 64), "white"), "JPEG"),
        saved(Image.new("RGB", (96, 64)), "JPEG", progressive=True),
        saved(Image.new("L", (1, 1)), "JPEG"),
        saved(Image.new("L", (1, 1)), "PNG"),
        saved(Image.effect_noise((333, 517), 90), "JPEG", quality=100),
        saved(Image.effect_noise((333, 517), 90), "JPEG", quality=100, progressive=True),
        GIF + b"more",
        BMP + b"more",
    ],
)
def test_what_is_whole_is_read(data: bytes) -> None:
    assert read_picture(data).mode == "RGB"


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def test_interlaced_rows_are_counted() -> None:
    for depth, colour in ((1, 0), (2, 0), (4, 3), (8, 6), (16, 2)):
        samples = {0: 1, 2: 3, 3: 1, 6: 4}[colour] * depth
        for width, height in ((1, 1), (3, 2), (5, 9), (8, 8), (13, 17)):
            rows = b""
            for left, top, across, down in ADAM7:
                columns = len(range(left, width, across))
                rows += len(range(top, height, down)) * (
                    bool(columns) * bytes(1 + (columns * samples + 7) // 8)
                )
            head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 1))
            for end, fine in ((None, True), (-1, False)):
                data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"PLTE", bytes(48)) * (colour == 3)
                data += chunk(b"IDAT", zlib.compress(rows[:end])) + chunk(b"IEND", b"")
                if fine:
                    assert read_picture(data).size == (width, height)
                else:
                    with pytest.raises(SpecError, match="rows are missing"):
                        read_picture(data)


# --- sizes


def sized(kind: str, width: int, height: int) -> bytes:
    """A file that says it is so large, and holds nearly nothing."""
    if kind == "png":
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    if kind == "jpeg":
        at = JPEG.index(b"\xff\xc0") + 5
        return JPEG[:at] + struct.pack(">HH", height, width) + JPEG[at + 4 :]
    if kind == "webp":
        body = b"WEBPVP8L" + struct.pack("<I", 10) + b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14)
        return b"RIFF" + struct.pack("<I", len(body) + 5) + body + bytes(5)
    if kind == "gif":
        return GIF[:6] + struct.pack("<HH", width, height) + GIF[10:]
    if kind == "bmp":
        return BMP[:18] + struct.pack("<ii", width, -height) + BMP[26:]
    data = saved(PLAIN, "TIFF", compression="tiff_lzw")
    for tag, side in ((256, width), (257, height)):
        at = data.index(struct.pack("<HHI", tag, 3, 1))
        data = data[:at] + entry(tag, 4, 1, side) + data[at + 12 :]
    return data


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "bmp", "tiff"])
def test_a_bomb_of_any_kind_gets_our_sentence(kind: str) -> None:
    width, height = (16_000, 16_000) if kind == "webp" else (65_000, 65_000)
    with pytest.raises(SpecError) as caught:
        look(sized(kind, width, height))
    told = f"{width} x {height} is {width * height:,} pixels; the limit is 64,000,000"
    assert str(caught.value) == f"references: {told}"
