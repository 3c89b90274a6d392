"""Layout boxes: where each reference should go, shown to the model as one more picture, of outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

from pixelkiln.jobs.errors import SpecError

Box = tuple[float, float, float, float]  # x1, x2, y1, y2 as fractions, or percents, of width and height
Colour = tuple[int, int, int]

MOST_BOXES = 5  # drawn
COLOURS: tuple[Colour, ...] = (
    *((255, 0, 0), (0, 180, 0), (0, 0, 255), (204, 180, 0), (255, 0, 255)),
    *((0, 255, 255), (128, 0, 0), (0, 128, 0), (0, 0, 128), (128, 128, 0)),
)


def parse_boxes(data: Any) -> list[Box]:
    """Boxes from JSON: a list of four numbers each, or of {"bbox": …}, or {"bboxes": …}. Raises SpecError."""
    if isinstance(data, dict):
        data = data.get("bboxes")
    try:
        boxes = [tuple(map(float, item["bbox"] if isinstance(item, dict) else item)) for item in data]
        return [(x1, x2, y1, y2) for x1, x2, y1, y2 in boxes]
    except (TypeError, ValueError, KeyError) as error:
        raise SpecError("layout", f"boxes are [x1, x2, y1, y2]: {error}") from error


def _pixels(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a box in a picture of this size."""
    unit = 1.0 if max(map(abs, box)) <= 1 else 100.0
    sides = []
    for ends, length in ((box[:2], size[0]), (box[2:], size[1])):
        low, high = sorted(max(0, min(length - 1, round(end / unit * length))) for end in ends)
        if low == high:
            raise SpecError("layout", f"box {list(box)} is empty in a picture of {size[0]}×{size[1]}")
        sides.append((low, high))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def _area(corners: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = corners
    return (right - left) * (bottom - top)


class _Colours(dict[int, Colour]):
    """A reference's colour by its number: its box's, or its own place in the row of colours."""

    def __missing__(self, reference: int) -> Colour:
        return COLOURS[reference % len(COLOURS)]


def drawn(boxes: Sequence[Box], size: tuple[int, int]) -> tuple[Image.Image, _Colours]:
    """The layout's picture, black with outlines, and each reference's colour. The largest box comes first."""
    picture = Image.new("RGB", size)
    draw = ImageDraw.Draw(picture)
    corners = [_pixels(box, size) for box in boxes]
    order = sorted(range(len(boxes)), key=lambda i: _area(corners[i]), reverse=True)[:MOST_BOXES]
    widest = int(math.sqrt(size[0] * size[1]) * 0.05)
    colours = _Colours()
    for place, i in enumerate(order):
        colours[i] = COLOURS[place]
        line = max(widest - place * max(1, widest // MOST_BOXES), 5)
        draw.rectangle(corners[i], outline=colours[i], width=line)
    return picture, colours


def bordered(picture: Image.Image, colour: Colour) -> Image.Image:
    """A copy with a border inside its edge, 4% of √area wide."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    for inset in range(int(math.sqrt(picture.width * picture.height) * 0.04)):
        draw.rectangle((inset, inset, picture.width - 1 - inset, picture.height - 1 - inset), outline=colour)
    return picture
