"""Sizes of reference pictures: each keeps its own, cut to whole tokens, and none is made larger.

Everything here is Pillow and integers, as diffusers does it: no arrays, no model.
"""

from __future__ import annotations

import math

from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.flux2.schedule import TOKEN

Size = tuple[int, int]  # width, height in pixels

MOST_PIXELS = 1024 * 1024  # of a reference; a larger one is made smaller
LEAST_SIDE = 64
MOST_ASPECT = 8  # the longer side over the shorter one


def scaled(size: Size) -> Size:
    """A reference's size before it is cut. Raises SpecError for one that is too small or too narrow."""
    width, height = size
    if min(size) < LEAST_SIDE:
        raise SpecError("references", f"{width}x{height} is too small: a side needs {LEAST_SIDE} pixels")
    if max(size) > MOST_ASPECT * min(size):
        raise SpecError("references", f"{width}x{height} is too narrow: the most is {MOST_ASPECT}:1")
    if width * height <= MOST_PIXELS:
        return size
    scale = math.sqrt(MOST_PIXELS / (width * height))
    return int(width * scale), int(height * scale)


def prepared_size(size: Size) -> Size:
    """What the model sees of a reference of this size. Raises SpecError."""
    width, height = scaled(size)
    return width // TOKEN * TOKEN, height // TOKEN * TOKEN


def prepared(picture: Image.Image) -> Image.Image:
    """An RGB picture whose sides are multiples of TOKEN, cut out of the middle. Raises SpecError."""
    size, (width, height) = scaled(picture.size), prepared_size(picture.size)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return picture.crop((left, top, left + width, top + height))
