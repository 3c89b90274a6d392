"""Reading pictures that strangers made: what a reference file may be, checked on both sides of the bucket."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.storage import colours, damage, foreign
from pixelkiln.jobs.storage.containers import parts
from pixelkiln.jobs.storage.parts import ForeignError, Parts

MAX_BYTES = 64 * 2**20  # of the file
MAX_DECODED = 64_000_000  # pixels
MAX_SIDE = 65_535  # pixels: a row is nothing beside the rest
MAX_SCANS = 64  # of a JPEG; encoders write ten, and an empty one takes as long as another
PIXEL = 4  # bytes of a decoded one, as Pillow holds RGB
STRIP = 2**16  # pixels that are converted at once: as stored, with alpha, on white, in RGB
BESIDE = 4 * 2**20  # bytes of strips, and of decoders' own: windows, tables, rows

AGAIN = "fetch it again, or save it as PNG"

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}  # bytes a pixel, by Pillow's mode; 4 of all others
_COPIES = {"JPEG": 2, "WEBP": 3}  # of the file, beside the caller's, while it is decoded
_PROFILED = 6 * 2**20  # bytes of LittleCMS' tables, beside what they are made of
_WEBP_CANVASES = 2 * PIXEL  # libwebp's own, held as long as the file is open
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Undecoded:
    """A picture file that was looked at: no pixel of it is decoded yet."""

    field: str
    size: tuple[int, int]  # width, height in pixels, before it is turned upright
    bytes_needed: int  # at most while it is decoded, its file included
    _parts: Parts

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height in pixels as a person sees it."""
        width, height = self.size
        return (height, width) if self._parts.orientation in _SIDEWAYS else (width, height)

    @property
    def notice(self) -> str:
        """What who gives it may not expect; '' for nothing."""
        more = self._parts.more
        return f"has more {more} than one; the first is taken" if more else ""

    def decode(self) -> Image.Image:
        """The picture in RGB, upright; transparency falls on white, an animation gives its first frame.

        Colours are sRGB's, converted from the file's own profile. Raises SpecError, for damage too.
        """
        with _told(self.field):
            damage.check(self._parts)
            picture = self._flat()
            turn = _TURNS.get(self._parts.orientation)
            return picture if turn is None else picture.transpose(turn)

    def _flat(self) -> Image.Image:
        with _opened(self._parts) as image:
            image.load()
            if _is_plain(image) and colours.is_srgb(self._parts, image):
                return image
            convert = colours.converter(self._parts, image)
            flat = image if _is_plain(image) else Image.new("RGB", image.size)
            rows = max(1, STRIP // image.width)
            for top in range(0, image.height, rows):
                box = (0, top, image.width, min(top + rows, image.height))
                flat.paste(convert(image.crop(box)), box)
            _clear(flat, self._parts.covers or (0, 0, *image.size))
            return flat


def look(data: bytes, field: str = "references") -> Undecoded:
    """Look at a picture file's headers.

    Raises SpecError naming `field` where it is no picture, of another format, truncated or too large.
    """
    if len(data) > MAX_BYTES:
        raise SpecError(field, f"the file is {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    with _told(field):
        found = parts(data)
        if found is None:
            raise ForeignError(foreign.named(data))
        _check_size(field, found.size)
        if found.scans > MAX_SCANS:
            raise SpecError(field, f"has {found.scans:,} scans; the limit is {MAX_SCANS}")
        with _opened(found) as image:
            _check_size(field, image.size)
            return Undecoded(field, image.size, len(data) + _needed(found, image), found)


def read_picture(data: bytes, field: str = "references") -> Image.Image:
    """Decode a picture file, see Undecoded.decode. Raises SpecError as `look` does."""
    return look(data, field).decode()


def _check_size(field: str, size: tuple[int, int]) -> None:
    width, height = size
    pixels = width * height
    if pixels > MAX_DECODED:
        raise SpecError(field, f"{width} x {height} is {pixels:,} pixels; the limit is {MAX_DECODED:,}")
    if max(width, height) > MAX_SIDE:
        raise SpecError(field, f"is {width} x {height}; the limit of a side is {MAX_SIDE:,}")


def _needed(found: Parts, image: Image.Image) -> int:
    """Bytes at most while it is loaded, then flattened, then turned; tests measure each way."""
    pixels, stored = image.width * image.height, _STORED.get(image.mode, PIXEL)
    held = _WEBP_CANVASES if found.format == "WEBP" else 0
    loading = pixels * (stored + held + (PIXEL if found.format == "WEBP" else 0)) + found.whole
    flattening = 0 if _is_plain(image) else pixels * (stored + held + PIXEL)
    turning = 2 * PIXEL * pixels if found.orientation in _TURNS else 0
    profiled = _PROFILED + 8 * len(found.profile) if found.profile else 0
    files = len(found.body) * _COPIES.get(found.format, 1)
    return max(loading, flattening, turning) + files + profiled + BESIDE


def _is_plain(image: Image.Image) -> bool:
    """Whether it is kept as it is loaded; a WebP's holds libwebp's canvases."""
    return image.mode == "RGB" and image.format != "WEBP" and "transparency" not in image.info


def _clear(picture: Image.Image, covered: tuple[int, int, int, int]) -> None:
    """Paint white what a first frame leaves free."""
    (width, height), (left, top, right, bottom) = picture.size, covered
    for box in (
        (0, 0, width, top),
        (0, bottom, width, height),
        (0, 0, left, height),
        (right, 0, width, height),
    ):
        if box[0] < box[2] and box[1] < box[3]:
            picture.paste("white", box)


def _opened(found: Parts) -> Image.Image:
    return Image.open(io.BytesIO(found.body), formats=[found.format])


@contextmanager
def _told(field: str) -> Iterator[None]:
    """Whatever a file's parsers raise is told as the file's fault, in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own bomb warning has a lower bound than ours
        try:
            yield
        except (SpecError, MemoryError):
            raise
        except ForeignError as error:
            raise SpecError(field, str(error)) from None
        except Exception as error:  # Pillow lets struct.error, TypeError and others pass
            said = " ".join(str(error).split())[:120] or type(error).__name__
            raise SpecError(field, f"the picture cannot be read: {said}; {AGAIN}") from None
