"""Sizes of reference pictures: what the model sees of each, by how many there are.

Everything here is Pillow and integers, as the model's authors resize: no arrays, no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.hidream.config import PATCH
from pixelkiln.worker.engines.hidream.layout import Box, bordered, drawn

KEPT_BUDGET = 2048  # pixels: the budget that a kept aspect is resized to

FEWEST_PADS = 80  # tokens: what the smallest area the tower takes becomes, its sides rounded up

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True, slots=True)
class Arranged:
    """References as the model takes them, and the size of the picture it makes."""

    pictures: tuple[Image.Image, ...]  # sides are multiples of 32
    size: Size


def budget(longest: int, count: int) -> int:
    """The side of the square a reference may fill, for so many pictures (a layout's included)."""
    if count == 1:
        return longest
    if count == 2:
        return longest * 3 // 4
    if count <= 4:
        return longest // 2
    return longest * 3 // 8 if count <= 8 else longest // 4


def vision_budget(count: int) -> int:
    """The side of the square whose area the vision tower's copy of a reference has."""
    if count <= 4:
        return 384
    return 288 if count <= 8 else 192


def fitted(size: Size, side: int) -> Size:
    """The largest size in multiples of 32 within side², near the picture's own shape. Raises SpecError."""
    width, height = size
    scale = math.sqrt(side * side / (width * height))
    options = [
        (across(width * scale) // PATCH * PATCH, down(height * scale) // PATCH * PATCH)
        for across in (round, math.floor)
        for down in (round, math.floor)
    ]
    options.sort(key=lambda option: option[0] * option[1], reverse=True)
    found = next((option for option in options if option[0] * option[1] <= side * side), options[-1])
    if 0 in found:
        raise SpecError(
            "references",
            f"a picture of {width}×{height} is too narrow, or the target too small for so many pictures",
        )
    return found


def resized(picture: Image.Image, side: int) -> Image.Image:
    """Halve while at least twice too large, then resize (bicubic) and crop the middle to the fitted size."""
    while min(picture.size) >= 2 * side:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    width, height = fitted(picture.size, side)
    across, down = picture.width / width, picture.height / height
    if across < down:
        whole = (width, round(picture.height / across))
    else:
        whole = (round(picture.width / down), height)
    left, top = (whole[0] - width) // 2, (whole[1] - height) // 2
    picture = picture.resize(whole, Image.Resampling.BICUBIC)
    return picture.crop((left, top, left + width, top + height))


def vision_size(size: Size, side: int) -> Size:
    """The size of the vision tower's copy: side² in area, sides floored to 32. Raises SpecError."""
    ratio = size[0] / size[1]
    width = math.sqrt(side * side * ratio)
    found = int(width / PATCH) * PATCH, int(width / ratio / PATCH) * PATCH
    if 0 in found:
        raise SpecError("references", f"a picture of {size[0]}×{size[1]} is too narrow to use")
    return found


def vision_copies(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """What the vision tower sees of arranged references (Lanczos)."""
    side = vision_budget(len(pictures))
    return [picture.resize(vision_size(picture.size, side), Image.Resampling.LANCZOS) for picture in pictures]


def bounds(
    size: Size, pictures: int, layout: bool = False, keep_aspect: bool = False
) -> tuple[Size, int, int]:
    """At most: the target's size, patches of all references, and the vision tower's tokens for each."""
    if keep_aspect:
        return (KEPT_BUDGET, KEPT_BUDGET), (KEPT_BUDGET // PATCH) ** 2, (vision_budget(1) // PATCH) ** 2
    if pictures == 0:
        return size, 0, 0
    count = pictures + layout
    patches = count * (budget(max(size), count) // PATCH) ** 2
    return size, patches, max((vision_budget(count) // PATCH) ** 2, FEWEST_PADS)


def arrange(
    pictures: Sequence[Image.Image], size: Size, layout: Sequence[Box] = (), keep_aspect: bool = False
) -> Arranged:
    """Bring references to the sizes they have for a target of `size`, with a layout's picture last.

    `keep_aspect` with one picture makes the target as large as that picture, and ignores the layout.
    """
    pictures = [one if one.mode == "RGB" else one.convert("RGB") for one in pictures]  # convert() copies
    if keep_aspect and len(pictures) == 1:
        kept = resized(pictures[0], KEPT_BUDGET)
        return Arranged((kept,), kept.size)
    side = budget(max(size), len(pictures) + bool(layout))
    if layout:
        picture, colours = drawn(layout, size)
        pictures = [bordered(resized(one, side), colours[i]) for i, one in enumerate(pictures)] + [picture]
    return Arranged(tuple(resized(picture, side) for picture in pictures), size)
