"""The colours that reach a model are those a person sees: by profile, depth, palette, ink, transparency."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageCms

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.storage.pictures import read_picture
from tests.jobs.storage import icc
from tests.jobs.storage.test_pictures import (
    chunk,
    coloured,
    deep,
    floating,
    measured,
    saved,
    segment,
    with_chunk,
)

PLAIN = coloured().convert("RGB")
GREY = PLAIN.convert("L")
SCREENS = {"P3": icc.P3, "Adobe": icc.ADOBE, "ProPhoto": icc.PROPHOTO}


def apart(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of a value."""
    pairs = zip(one.tobytes(), other.convert("RGB").tobytes(), strict=True)
    return max(abs(a - b) for a, b in pairs)


def converted(profile: bytes, image: Image.Image) -> Image.Image:
    """What LittleCMS makes of the whole picture at once."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert made is not None
    return made


# --- profiles


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_a_screens_colours_become_srgb(screen: str, kind: str) -> None:
    profile = icc.of_screen(SCREENS[screen])
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    tagged = read_picture(saved(PLAIN, kind, icc_profile=profile, **options))
    untagged = read_picture(saved(PLAIN, kind, **options))
    assert apart(tagged, converted(profile, untagged)) == 0
    assert apart(tagged, untagged) > 15


def test_a_profile_of_palettes_greys_and_clear_pictures() -> None:
    profile = icc.of_screen(icc.P3)
    few = PLAIN.quantize(16)
    assert (
        apart(read_picture(saved(few, "PNG", icc_profile=profile)), converted(profile, few.convert("RGB")))
        == 0
    )
    found = read_picture(saved(coloured(), "PNG", icc_profile=profile))
    expected = converted(profile, coloured().convert("RGB")).convert("RGBA")
    expected.putalpha(coloured().getchannel("A"))
    assert apart(found, Image.alpha_composite(Image.new("RGBA", found.size, "white"), expected)) == 0
    for image in (GREY, coloured().convert("LA"), deep(GREY), GREY.convert("1")):
        linear = read_picture(saved(image, "PNG", icc_profile=icc.of_greys(1.0)))
        assert sum(linear.tobytes()) >= sum(read_picture(saved(image, "PNG")).tobytes())
    assert apart(read_picture(saved(GREY, "PNG", icc_profile=icc.of_greys(1.0))), GREY) > 50


def test_inks_are_seen_by_the_presss_profile() -> None:
    inks = PLAIN.convert("CMYK")
    profile = icc.of_press()
    for kind, nearest in (("TIFF", 0), ("JPEG", 30)):
        found = read_picture(saved(inks, kind, icc_profile=profile))
        assert apart(found, converted(profile, inks)) <= nearest
        assert apart(found, read_picture(saved(inks, kind))) > 50
    assert apart(read_picture(saved(inks, "JPEG", quality=100, subsampling=0)), PLAIN) < 12


SHORT = icc.of_screen(icc.P3)


@pytest.mark.parametrize(
    "profile",
    {
        "none": b"not a profile",
        "cut": SHORT[:200],
        "without its mark": SHORT.replace(b"acsp", b"xxxx"),
        "of a table of contents without end": SHORT[:128] + b"\xff" * 4 + SHORT[132:],
        "of tags beyond its end": SHORT[:132] + b"rXYZ\x7f\x7f\x7f\x7f\0\0\0\x14" * 7 + SHORT[216:],
        "of inks for a screen's picture": icc.of_press(),
        "of greys for a picture in colour": icc.of_greys(1.0),
        "of zeros": bytes(5000),
        "larger than any": struct.pack(">I", 2**23) + SHORT[4:] + bytes(2**23),
        "that says it is longer": struct.pack(">I", 2**31) + SHORT[4:],
        "of a link between devices": SHORT[:12] + b"link" + SHORT[16:],
        "of no colours": icc.profile(b"RGB ", b"XYZ ", b"mntr", []),
        "of sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    }.values(),
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_profile_of_no_use_leaves_the_picture(profile: bytes, kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    plain = read_picture(saved(PLAIN, kind, **options))
    assert apart(read_picture(saved(PLAIN, kind, icc_profile=profile, **options)), plain) == 0


def test_pieces_of_a_jpegs_profile_are_joined_in_their_order() -> None:
    data, profile = saved(PLAIN, "JPEG", quality=100), icc.of_screen(icc.ADOBE)
    pieces = [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([at // 100 + 1, 9]) + profile[at : at + 100])
        for at in range(0, len(profile), 100)
    ]
    whole = read_picture(data[:2] + b"".join(reversed(pieces)) + data[2:])
    assert apart(whole, read_picture(saved(PLAIN, "JPEG", quality=100, icc_profile=profile))) == 0
    assert apart(whole, read_picture(data)) > 15
    assert (
        apart(read_picture(data[:2] + b"".join(pieces[:1] + pieces[2:]) + data[2:]), read_picture(data)) == 0
    )


def directory(*entries: tuple[int, int, int, bytes], after: bytes = b"") -> bytes:
    table = struct.pack("<H", len(entries))
    return table + b"".join(struct.pack("<HHI", *one[:3]) + one[3] for one in entries) + bytes(4) + after


def test_a_camera_that_names_adobes_colours_is_believed() -> None:
    for name, differs in ((b"R03\0", True), (b"R98\0", False)):
        interoperability = directory((1, 2, 4, name))
        further = directory((0xA005, 4, 1, struct.pack("<I", 44)), after=interoperability)
        exif = b"Exif\0\0II*\0\x08\0\0\0" + directory((0x8769, 4, 1, struct.pack("<I", 26)), after=further)
        data = saved(PLAIN, "JPEG", quality=100)
        found = read_picture(data[:2] + segment(0xE1, exif) + data[2:])
        expected = saved(PLAIN, "JPEG", quality=100, icc_profile=icc.of_screen(icc.ADOBE))
        assert apart(found, read_picture(expected if differs else data)) <= (6 if differs else 0)


def test_converting_takes_what_was_said_before(tmp_path: Path) -> None:
    image = coloured((2000, 1200))
    screen = {"icc_profile": icc.of_screen(icc.P3)}
    files = {
        "png screen": saved(image.convert("RGB"), "PNG", compress_level=1, **screen),
        "png clear": saved(image, "PNG", compress_level=1, **screen),
        "jpeg screen": saved(image.convert("RGB"), "JPEG", progressive=True, **screen),
        "jpeg inks": saved(image.convert("CMYK"), "JPEG", icc_profile=icc.of_press(9)),
        "jpeg fine inks": saved(image.convert("CMYK"), "JPEG", icc_profile=icc.of_press(17)),
        "webp screen": saved(image, "WEBP", method=0, **screen),
    }
    for kind, (grown, said) in measured(tmp_path, files).items():
        assert grown <= said <= 1.3 * grown + 24 * 2**20, kind


# --- PNG's own words for colours


def numbers(*values: float) -> bytes:
    return struct.pack(f">{len(values)}I", *(round(100_000 * value) for value in values))


P3_POINTS = numbers(0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


@pytest.mark.parametrize(
    ("chunks", "as_profile"),
    [
        ({b"gAMA": numbers(1 / 2.2)}, None),
        ({b"gAMA": numbers(1.0), b"sRGB": b"\0"}, None),
        ({b"gAMA": numbers(1.0)}, icc.of_screen(icc.SRGB, 1.0)),
        ({b"gAMA": numbers(1 / 1.8)}, icc.of_screen(icc.SRGB, 1.8)),
        ({b"gAMA": numbers(1 / 2.2), b"cHRM": P3_POINTS}, icc.of_screen(icc.P3)),
        ({b"cHRM": P3_POINTS}, None),  # without gAMA it says nothing of tones
        ({b"cICP": b"\1\x0d\0\1", b"gAMA": numbers(1.0)}, None),
        ({b"cICP": b"\x0c\x0d\0\1"}, icc.of_screen(icc.P3)),
        ({b"gAMA": bytes(4)}, None),
        ({b"gAMA": numbers(1 / 2.2), b"cHRM": bytes(32)}, None),
        ({b"gAMA": b"\0"}, None),
    ],
)
def test_chunks_are_read_as_browsers_do(chunks: dict[bytes, bytes], as_profile: bytes | None) -> None:
    data = saved(PLAIN, "PNG")
    found = read_picture(data[:33] + b"".join(chunk(*one) for one in chunks.items()) + data[33:])
    expected = PLAIN if as_profile is None else converted(as_profile, PLAIN)
    assert apart(found, expected) <= (
        0 if as_profile is None else 16
    )  # sRGB's curve and 2.2 differ in the dark
    assert as_profile is None or apart(found, PLAIN) > 16


# --- greys beyond 8 bits, floats, Lab


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (deep(GREY), "PNG"),
        (deep(GREY), "TIFF"),
        (floating(GREY), "TIFF"),
        (GREY.convert("F").point(lambda value: value * 1000 - 5), "TIFF"),
        (GREY.convert("I").point(lambda value: value * 100_000), "TIFF"),
    ],
)
def test_deep_greys_keep_their_shape(image: Image.Image, kind: str) -> None:
    low, high = GREY.getextrema()
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    stretched = GREY.point(lambda value: (value - low) * 255 / (high - low) + 0.5)
    expected = GREY if image.mode == "I;16" or image.getextrema()[1] in (high / 255,) else stretched
    found = read_picture(saved(image, kind))
    assert min(apart(found, expected), apart(found, GREY)) <= 1


def bits(depth: int, colour: int, row: bytes, key: bytes = b"", width: int = 4) -> bytes:
    """A PNG of one row."""
    head = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    clear = chunk(b"tRNS", key) if key else b""
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + clear
    return data + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (bits(16, 0, struct.pack(">4H", 0, 257, 32_896, 65_535)), [0, 1, 128, 255]),
        (bits(16, 0, struct.pack(">4H", 0, 257, 32_896, 65_535), b"\x80\x80"), [0, 1, 255, 255]),
        (bits(16, 0, struct.pack(">4H", 0, 258, 32_897, 65_535), b"\x80\x80"), [0, 1, 128, 255]),
        (bits(16, 4, struct.pack(">8H", 0, 65_535, 0, 0, 32_896, 65_535, 0, 32_896)), [0, 255, 128, 127]),
        (bits(8, 0, b"\0\1\x50\xff", b"\0\x50"), [0, 1, 255, 255]),
        (bits(4, 0, b"\x01\x2f", b"\0\1"), [0, 255, 34, 255]),
        (bits(4, 0, b"\x01\x2f", b"\0\0"), [255, 17, 34, 255]),
        (bits(2, 0, b"\x1b", b"\0\2"), [0, 85, 255, 255]),
        (bits(1, 0, b"\x50", b"\0\0"), [255, 255, 255, 255]),
        (bits(1, 0, b"\x50", b"\0\1"), [0, 255, 0, 255]),
    ],
)
def test_greys_of_every_depth_with_a_clear_one(data: bytes, seen: list[int]) -> None:
    found = list(read_picture(data).getchannel("R").tobytes())
    assert all(abs(one - other) <= 1 for one, other in zip(found, seen, strict=True)), found


def test_colours_of_16_bits_with_a_clear_one() -> None:
    row = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 65_535, 0, 0)
    found = read_picture(bits(16, 2, row, struct.pack(">3H", 0x1234, 0x5678, 0x9ABC), width=2))
    assert [found.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (255, 0, 0)]


def test_lab_is_converted() -> None:
    lab = ImageCms.profileToProfile(
        PLAIN, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    screen = ImageCms.profileToProfile(
        lab, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert screen is not None
    assert apart(read_picture(saved(lab, "TIFF")), screen) == 0
    assert apart(screen, PLAIN) < 40  # 8 bits of Lab are few for a saturated yellow


def test_a_tiff_whose_white_is_zero() -> None:
    options = {"tiffinfo": {ExifTags.Base.PhotometricInterpretation: 0}}
    assert apart(read_picture(saved(GREY, "TIFF", **options)), GREY) == 0
    flipped = deep(GREY.point(lambda value: 255 - value))  # of 16 bits Pillow writes what it is given
    assert apart(read_picture(saved(flipped, "TIFF", **options)), GREY) <= 1


def test_a_first_frame_smaller_than_its_canvas_lies_on_white() -> None:
    data = bytearray(saved(PLAIN.quantize(8), "GIF"))
    struct.pack_into("<HH", data, 6, 100, 60)
    found = read_picture(bytes(data))
    assert found.size == (100, 60)
    assert found.getpixel((99, 0)) == found.getpixel((0, 59)) == (255, 255, 255)
    assert apart(found.crop((0, 0, 48, 32)), PLAIN.quantize(8)) == 0


def test_high_dynamic_range_is_refused_with_the_way_out() -> None:
    for transfer in (16, 18):
        with pytest.raises(
            SpecError, match=r"^references: has a high dynamic range \(PQ, HLG\); save it with"
        ):
            read_picture(with_chunk(b"cICP", bytes([9, transfer, 0, 1])))
