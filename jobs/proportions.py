"""The sizes that reference pictures are brought to, and which pictures have proportions for that.

Integers alone, as the models' authors resize: no pixels, no model.
"""

from __future__ import annotations

import math

from pixelkiln.jobs.errors import SpecError

PATCH = 32  # pixels: the side of the square that a model sees as one
KEPT_BUDGET = 2048  # pixels: the budget that a kept aspect is resized to

Size = tuple[int, int]  # width, height in pixels


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
            f"a picture of {width} x {height} is too narrow, or the target too small for so many pictures",
        )
    return found


def halved(size: Size, side: int) -> Size:
    """What is left of a size that is halved while both sides are at least twice as long as `side`."""
    while min(size) >= 2 * side:
        size = size[0] // 2, size[1] // 2
    return size


def vision_size(size: Size, side: int) -> Size:
    """The size of the vision tower's copy: side² in area, sides floored to 32. Raises SpecError."""
    ratio = size[0] / size[1]
    width = math.sqrt(side * side * ratio)
    found = int(width / PATCH) * PATCH, int(width / ratio / PATCH) * PATCH
    if 0 in found:
        raise SpecError("references", f"a picture of {size[0]} x {size[1]} is too narrow to use")
    return found


def fault(target: Size, count: int, boxes: bool, keep_aspect: bool, size: Size) -> str:
    """Why a picture of `size` cannot be one of `count` references for a picture of `target`; '' if it can."""
    pictures = 1 if keep_aspect else count + boxes
    side = KEPT_BUDGET if keep_aspect else budget(max(target), pictures)
    try:
        vision_size(fitted(halved(size, side), side), vision_budget(pictures))
    except SpecError:
        return f"{size[0]} x {size[1]} is too narrow for the model to see; crop it"
    return ""


def are_too_many(target: Size, count: int, boxes: bool, keep_aspect: bool) -> bool:
    """Whether `target` leaves each of so many references less than a patch, whatever their shape."""
    return count > 0 and not keep_aspect and budget(max(target), count + boxes) < PATCH
