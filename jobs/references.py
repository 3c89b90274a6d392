"""What models make of reference pictures: which can be one, how large each is taken, what size follows.

Integers and square roots, as the models' authors resize: no pixels, no model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pixelkiln.jobs import proportions
from pixelkiln.jobs.proportions import Size

MEGAPIXEL = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """What goes for each picture a job refers to. Sizes are width, height in pixels."""

    def fault(self, size: Size, target: Size, count: int, boxes: bool, keep_aspect: bool) -> str:
        """Why a picture of `size` cannot be one of `count` for a picture of `target`; '' if it can."""
        return ""

    def are_too_many(self, target: Size, count: int, boxes: bool, keep_aspect: bool) -> bool:
        """Whether `target` is too small for so many, whatever their shape."""
        return False

    def output(self, sizes: Sequence[Size]) -> Size | None:
        """The size of the picture where a job names none, of references of these; None: the model's own."""
        return None


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
    """Each keeps its own size: a larger one is brought to `area`, and what is over the grid is cut away.

    The first one's is the picture's.
    """

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

    def output(self, sizes: Sequence[Size]) -> Size | None:
        """See Rule."""
        return self.prepared(sizes[0]) if sizes else None


@dataclass(frozen=True, slots=True)
class Fitted(Rule):
    """Each is brought to the same area by its own ratio, once to be encoded and once to be looked at.

    The last one, which is edited, gives the picture its size.
    """

    area: int = MEGAPIXEL  # pixels, of the copy that is encoded
    vision_area: int = 384 * 384  # of the one that is looked at
    max_ratio: int = 200  # of the longer side to the shorter, in what is looked at

    def fault(self, size: Size, target: Size, count: int, boxes: bool, keep_aspect: bool) -> str:
        """See Rule."""
        seen = fit(self.vision_area, size)
        if 0 in seen or max(seen) > self.max_ratio * min(seen):
            return f"{size[0]} x {size[1]} is too narrow for the model to see; crop it"
        return ""

    def output(self, sizes: Sequence[Size]) -> Size | None:
        """See Rule."""
        return fit(self.area, sizes[-1]) if sizes else None


def fit(area: int, size: Size) -> Size:
    """The size in multiples of 32 that has about this area and ratio; halves go to the even multiple."""
    ratio = size[0] / size[1]
    width = math.sqrt(area * ratio)
    return round(width / 32) * 32, round(width / ratio / 32) * 32
