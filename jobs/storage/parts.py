"""What was found in a picture file before anything of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PARTS = 65_536  # chunks, segments, or strips of a file


class ForeignError(ValueError):
    """The file is of a kind that is not read; the message, with the way out, follows the file's name."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A file without what is no picture."""

    format: str  # as Pillow names it
    body: bytes
    size: tuple[int, int]  # width, height in pixels, as stored
    orientation: int = 1  # as EXIF counts; 1 is upright
    scans: int = 1  # passes over the whole picture
    whole: int = 0  # bytes that a decoder holds beside what it makes
    profile: bytes = b""  # ICC; none: sRGB
    tones: tuple[int, int] = (0, 65_535)  # what is black and what is white in 16 bits
    covers: tuple[int, int, int, int] | None = None  # the box that the first frame fills; None: all
    more: str = ""  # what the file holds beside the picture that is taken: "frames", "pages"
