"""Sizes of reference pictures: what the model sees of each, by how many there are.

Everything here is Pillow and integers, as the model's authors resize: no arrays, no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from pixelkiln.jobs.proportions import (
    KEPT_BUDGET,
    Size,
    budget,
    fitted,
    vision_budget,
    vision_size,
)
from pixelkiln.worker.engines.hidream.config import PATCH
from pixelkiln.worker.engines.hidream.layout import Box, bordered, drawn

FEWEST_PADS = 80  # tokens: what the smallest area the tower takes becomes, its sides rounded up


@dataclass(frozen=True, slots=True)
class Arranged:
    """References as the model takes them, and the size of the picture it makes."""

    pictures: tuple[Image.Image, ...]  # sides are multiples of 32
    size: Size


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
