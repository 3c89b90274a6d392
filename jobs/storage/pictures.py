"""Reading pictures that strangers made: what a reference file may be, checked on both sides of the bucket."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.storage.containers import Parts, parts

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 64 * 2**20  # of the file
MAX_DECODED = 64_000_000  # pixels
MAX_SIDE = 65_535  # pixels: a row is nothing beside the rest
MAX_SCANS = 64  # of a JPEG; encoders write ten, and an empty one takes as long as another
PIXEL = 4  # bytes of a decoded one, as Pillow holds RGB
STRIP = 2**16  # pixels that are converted at once: as stored, with alpha, on white, in RGB
BESIDE = 4 * 2**20  # bytes of strips, and of decoders' own: windows, tables, rows

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # bytes a pixel, by Pillow's mode; 4 of all others
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


@dataclass(frozen=True, slots=True)
class Undecoded:
    """A picture file that was looked at: no pixel of it is decoded yet."""

    field: str
    size: tuple[int, int]  # width, height in pixels, before it is turned upright
    bytes_needed: int  # at most while it is decoded, its file included
    _parts: Parts

    def decode(self) -> Image.Image:
        """The picture in RGB, upright; transparency falls on white, an animation gives its first frame.

        Raises SpecError.
        """
        with _told(self.field):
            picture = self._flat()
            turn = _TURNS.get(self._parts.orientation)
            return picture if turn is None else picture.transpose(turn)

    def _flat(self) -> Image.Image:
        with _opened(self._parts) as image:
            image.load()
            if _is_plain(image):
                return image
            flat = Image.new("RGB", image.size)
            rows = max(1, STRIP // image.width)
            for top in range(0, image.height, rows):
                box = (0, top, image.width, min(top + rows, image.height))
                flat.paste(_on_white(image.crop(box)), box)
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
            raise SpecError(field, f"is not a picture; {', '.join(FORMATS)} files are")
        with _opened(found) as image:
            width, height = image.size
            pixels = width * height
            if pixels > MAX_DECODED:
                raise SpecError(
                    field, f"{width} x {height} is {pixels:,} pixels; the limit is {MAX_DECODED:,}"
                )
            if max(width, height) > MAX_SIDE:
                raise SpecError(field, f"is {width} x {height}; the limit of a side is {MAX_SIDE:,}")
            if found.scans > MAX_SCANS:
                raise SpecError(field, f"has {found.scans:,} scans; the limit is {MAX_SCANS}")
            return Undecoded(field, (width, height), len(data) + _needed(found, image), found)


def read_picture(data: bytes, field: str = "references") -> Image.Image:
    """Decode a picture file, see Undecoded.decode. Raises SpecError as `look` does."""
    return look(data, field).decode()


def _needed(found: Parts, image: Image.Image) -> int:
    """Bytes at most while it is loaded, then flattened, then turned; tests measure each way."""
    pixels, stored = image.width * image.height, _STORED.get(image.mode, PIXEL)
    held = _WEBP_CANVASES if found.format == "WEBP" else 0
    loading = pixels * (stored + held + (PIXEL if found.format == "WEBP" else 0)) + found.whole
    flattening = 0 if _is_plain(image) else pixels * (stored + held + PIXEL)
    turning = 2 * PIXEL * pixels if found.orientation in _TURNS else 0
    files = len(found.body) * (3 if found.format == "WEBP" else 1)
    return max(loading, flattening, turning) + files + BESIDE


def _is_plain(image: Image.Image) -> bool:
    """Whether it is kept as it is loaded; a WebP's holds libwebp's canvases."""
    return image.mode == "RGB" and image.format != "WEBP" and "transparency" not in image.info


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


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
        except Exception as error:  # Pillow lets struct.error, TypeError and others pass
            said = " ".join(str(error).split())[:120] or type(error).__name__
            raise SpecError(field, f"the picture cannot be read: {said}") from None
