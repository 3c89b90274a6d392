"""The world's colours, sRGB 0–255: what a scene may name, and the looks of land and sky."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

RGB: TypeAlias = tuple[int, int, int]

TIMES = ("dawn", "day", "dusk", "night")
LANDS = ("sea", "hills", "mountains", "desert", "snow")

COLOURS: dict[str, RGB] = {  # of subjects; land and sky keep away from all of them
    "red": (214, 40, 46),
    "orange": (247, 127, 20),
    "yellow": (255, 208, 40),
    "green": (18, 140, 72),
    "blue": (36, 92, 208),
    "purple": (124, 58, 178),
    "pink": (246, 128, 178),
    "white": (250, 249, 246),
}

INK: RGB = (52, 44, 62)
WOOD: RGB = (122, 78, 54)
CREAM: RGB = (252, 230, 184)
GLOW: RGB = (255, 226, 130)
PANE: RGB = (176, 214, 232)

# From the top of the picture to the horizon.
SKY: dict[str, tuple[RGB, RGB, RGB]] = {
    "dawn": ((150, 176, 220), (236, 200, 214), (255, 222, 186)),
    "day": ((88, 168, 226), (142, 202, 238), (206, 234, 244)),
    "dusk": ((70, 52, 112), (176, 82, 124), (252, 160, 104)),
    "night": ((14, 20, 52), (28, 38, 84), (58, 72, 124)),
}
CLOUD: dict[str, RGB] = {
    "dawn": (255, 240, 236),
    "day": (255, 255, 255),
    "dusk": (226, 142, 154),
    "night": (88, 98, 146),
}
LIGHT: dict[str, RGB] = {  # the sun's disc, or the moon's
    "dawn": (255, 246, 206),
    "day": (255, 240, 150),
    "dusk": (255, 232, 158),
    "night": (248, 244, 216),
}
AMBIENT: dict[str, tuple[float, float, float]] = {  # multiplies the land's colours by day
    "dawn": (1.0, 0.93, 0.9),
    "day": (1.0, 1.0, 1.0),
    "dusk": (0.8, 0.66, 0.74),
    "night": (0.42, 0.4, 0.6),
}

# From far to near, by day.
LAND: dict[str, tuple[RGB, ...]] = {
    "sea": ((62, 152, 178), (86, 178, 190), (128, 206, 204), (240, 222, 178)),
    "hills": ((164, 200, 172), (140, 188, 128), (122, 172, 98), (148, 190, 96)),
    "mountains": ((142, 150, 178), (108, 118, 152), (84, 132, 134), (112, 158, 152)),
    "desert": ((222, 160, 120), (232, 178, 122), (240, 196, 136), (246, 212, 156)),
    "snow": ((176, 200, 222), (200, 218, 234), (220, 232, 242), (234, 242, 248)),
}


def mix(a: Iterable[float], b: Iterable[float], share: float) -> RGB:
    """`share` of `b`, the rest of `a`."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def tinted(colour: RGB, time: str) -> RGB:
    """A colour of the land in the light of that time."""
    red, green, blue = (round(x * y) for x, y in zip(colour, AMBIENT[time], strict=True))
    return red, green, blue


def lit(colour: RGB, time: str) -> RGB:
    """A subject's colour in the light of that time: near enough to itself to be named."""
    return mix(colour, tinted(colour, time), 0.22)
