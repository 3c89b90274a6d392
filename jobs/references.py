"""What models make of reference pictures: which can be one, how large each is taken, what size follows.

Integers and square roots, as the models' authors resize: no pixels, no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pixelkiln.jobs import proportions
from pixelkiln.jobs.proportions import Size

MEGAPIXEL = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """What goes for each picture a job refers to. Sizes are width, height in pixels."""

    decides: int | None = None  # which of them gives the picture its size, where a job names none

    def fault(self, size: Size, target: Size, count: int, boxes: bool, keep_aspect: bool) -> str:
        """Why a picture of `size` cannot be one of `count` for a picture of `target`; '' if it can."""
        return ""

    def are_too_many(self, target: Size, count: int, boxes: bool, keep_aspect: bool) -> bool:
        """Whether `target` is too small for so many, whatever their shape."""
        return False

    def output(self, size: Size) -> Size:
        """The size of the picture where a job names none and the reference that decides has this one."""
        return size


ANY = Rule()  # of models that take none, or any


@dataclass(frozen=True, slots=True)
class Shared(Rule):
    """The more there are, the smaller each is taken: a budget that the target's longer side sets."""

    def fault(self, size: Size, target: Size, count: int, boxes: bool, keep_aspect: bool) -> str:
        """See Rule."""
        return proportions.fault(target, count, boxes, keep_aspect, size)

    def are_too_many(self, target: Size, count: int, boxes: bool, keep_aspect: bool) -> bool:
        """See Rule."""
        return proportions.are_too_many(target, count, boxes, keep_aspect)


@dataclass(frozen=True, slots=True)
class Own(Rule):
    """Each keeps its own size: a larger one is brought to `area`, and what is over the grid is cut away."""

    decides: int | None = 0
    area: int = MEGAPIXEL  # pixels
    grid: int = 16
    min_side: int = 64
    max_ratio: int = 8  # of the longer side to the shorter

    def fault(self, size: Size, target: Size, count: int, boxes: bool, keep_aspect: bool) -> str:
        """See Rule."""
        width, height = size
        if min(size) < self.min_side:
            return f"{width} x {height} is too small; a side is at least {self.min_side}"
        if max(size) > self.max_ratio * min(size):
            return f"{width} x {height} is too narrow; {self.max_ratio}:1 is the limit, crop it"
        return ""

    def scaled(self, size: Size) -> Size:
        """What it is resized to before it is cut: `area` at most, sides floored; never enlarged."""
        width, height = size
        if width * height <= self.area:
            return size
        scale = math.sqrt(self.area / (width * height))
        return int(width * scale), int(height * scale)

    def prepared(self, size: Size) -> Size:
        """What is left of `scaled` once it is cut to the grid."""
        width, height = self.scaled(size)
        return width // self.grid * self.grid, height // self.grid * self.grid

    def output(self, size: Size) -> Size:
        """See Rule."""
        return self.prepared(size)


@dataclass(frozen=True, slots=True)
class Fitted(Rule):
    """Each is brought to the same area by its own ratio, once to be encoded and once to be looked at."""

    decides: int | None = -1  # the picture that is edited
    area: int = MEGAPIXEL  # pixels, of the copy that is encoded
    vision_area: int = 384 * 384  # of the one that is looked at
    max_ratio: int = 200  # of the longer side to the shorter, in what is looked at

    def fault(self, size: Size, target: Size, count: int, boxes: bool, keep_aspect: bool) -> str:
        """See Rule."""
        seen = fit(self.vision_area, size)
        if 0 in seen or max(seen) > self.max_ratio * min(seen):
            return f"{size[0]} x {size[1]} is too narrow for the model to see; crop it"
        return ""

    def output(self, size: Size) -> Size:
        """See Rule."""
        return fit(self.area, size)


def fit(area: int, size: Size) -> Size:
    """The size in multiples of 32 that has about this area and ratio; halves go to the even multiple."""
    ratio = size[0] / size[1]
    width = math.sqrt(area * ratio)
    return round(width / 32) * 32, round(width / ratio / 32) * 32
