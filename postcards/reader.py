"""Looks at a picture and tells what it shows, from colours and shapes alone: no learning, no chance.

The sky tells the time of day; every pixel (of the picture at half size) then goes to the nearest colour that
this world knows at that time. Connected patches of one subject's colour are compared, by outline and size,
with the outlines of all subjects; the land goes by the shares of its colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from postcards.draw import disc, puff
from postcards.facts import Fact, Spot
from postcards.palette import (
    CLOUD,
    COLOURS,
    CREAM,
    INK,
    LAND,
    LANDS,
    LIGHT,
    PANE,
    SKY,
    TIMES,
    WOOD,
    lit,
    mix,
    tinted,
)
from postcards.sprites import KINDS, SIZES, Paint, sprite

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Array = NDArray[np.float32]

LEAST = 40  # half-size pixels: smaller patches of a colour are no subject
GRID = 14  # outlines are compared on GRID × GRID cells
TOLERANCE = 0.24  # largest distance of an outline from the nearest one on record
PALE = {"white": 28, "light": 44, "cloud": 26}  # farthest that a pixel's colour may be, of 441
STARS = 4  # this many bright dots are a starry sky


@dataclass(frozen=True, slots=True)
class Thing:
    """A subject found: centre x and base y in pixels."""

    kind: str
    colour: str
    size: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a picture shows."""

    width: int
    height: int
    time: str
    land: str
    light: float | None  # centre x of the sun or moon, pixels
    crescent: bool
    stars: bool
    clouds: tuple[float, ...]  # centres x, pixels
    things: tuple[Thing, ...]

    def holds(self, fact: Fact) -> bool:
        """Whether the picture shows what the fact says."""
        sort, subject, value = fact
        if sort == "time":
            return self.time == value
        if sort == "land":
            return self.land == value
        if sort == "stars":
            return self.stars
        if sort == "clouds":
            return len(self.clouds) == int(value)
        if sort == "cloud":
            return len(self.clouds) == 1 and _within(value, self.clouds[0] / self.width)
        if sort == "moon":
            return self.light is not None and self.time == "night" and self.crescent == (value == "crescent")
        if sort == "light":
            if self.light is None or (self.time == "night") != (subject == "moon"):
                return False
            return not value or _within(value, self.light / self.width)
        things = [thing for thing in self.things if thing.kind == subject]
        if sort == "count":
            return len(things) == int(value)
        if sort == "colour":
            return bool(things) and all(thing.colour == value for thing in things)
        if sort == "size":
            return bool(things) and all(thing.size == value for thing in things)
        if sort == "place":
            middle = sum(thing.x for thing in things) / max(1, len(things))
            return bool(things) and _within(value, middle / self.width)
        others = [thing for thing in self.things if thing.kind == value]
        if len(things) != 1 or len(others) != 1:
            return False
        return self._related(sort, _spot(things[0]), _spot(others[0]))

    def _related(self, sort: str, a: Spot, b: Spot) -> bool:
        across, up = (a.x - b.x) / self.width, (a.y - b.y) / self.height
        if sort == "left of":
            return across <= -0.14
        if sort == "right of":
            return across >= 0.14
        if sort in ("above", "below"):
            return abs(across) <= 0.21 and a.aloft != b.aloft and a.aloft == (sort == "above")
        return abs(across) <= 0.21 and (up >= 0.04 if sort == "in front of" else up <= -0.04)


def read(picture: Pixels, scale: int = 1) -> Reading:
    """Read an RGB picture, (height, width, 3), drawn at that scale; places are told at scale 1."""
    if scale > 1:
        picture = np.asarray(Image.fromarray(picture).reduce(scale))
    height, width = picture.shape[:2]
    small = _halved(picture)
    time = _time(small)
    classes = _classes(time)
    labels = _labels(small, time)
    things: list[Thing] = []
    lights: list[Match] = []
    clouds: list[float] = []
    for name in (*COLOURS, "light", "cloud"):
        for patch in patches(_mask(name, time, small, labels)):
            match = _match(patch, name, time)
            if match is None:
                continue
            if match.kind == "cloud":
                clouds.append(match.x)
            elif match.kind in ("sun", "full", "crescent"):
                lights.append(match)
            else:
                things.append(Thing(match.kind, name, match.size, match.x, match.y))
    light = max(lights, key=lambda match: -match.distance, default=None)
    return Reading(
        width=width,
        height=height,
        time=time,
        land=_land(labels, classes),
        light=light.x if light else None,
        crescent=bool(light and light.kind == "crescent"),
        stars=time == "night" and _stars(small) >= STARS,
        clouds=tuple(clouds),
        things=tuple(things),
    )


def _spot(thing: Thing) -> Spot:
    return Spot(thing.x, thing.y, KINDS[thing.kind].home == "sky")


def _within(place: str, share: float) -> bool:
    low, high = {"left": (0, 0.385), "centre": (0.37, 0.63), "right": (0.615, 1)}[place]
    return low <= share <= high


def _halved(picture: Pixels) -> Array:
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    rows = picture[0:height:2].astype(np.float32) + picture[1:height:2]
    columns: Array = rows[:, 0:width:2] + rows[:, 1:width:2]
    return columns * np.float32(0.25)


def _time(small: Array) -> str:
    """The time whose sky the rows of the upper third are nearest to, by each row's median colour."""
    height = len(small)
    rows = np.median(small[: height // 3], axis=1)
    at = np.arange(len(rows)) / (0.53 * height) * 2

    def distance(time: str) -> float:
        sky = np.stack([np.interp(at, (0, 1, 2), channel) for channel in np.array(SKY[time]).T], -1)
        return float(np.abs(rows - sky).mean())

    return min(TIMES, key=distance)


@dataclass(frozen=True)
class Classes:
    """Names of what a colour can belong to at one time, and a table from 6-bit RGB to their numbers."""

    names: tuple[str, ...]
    table: NDArray[np.uint8]  # (64, 64, 64)


@cache
def _classes(time: str) -> Classes:
    known: list[tuple[str, tuple[float, ...]]] = []
    for name in COLOURS:
        paint = Paint.of(name, time)
        known += [(name, paint.body), (name, paint.shade)]
    known += [("cloud", CLOUD[time]), ("light", LIGHT[time])]
    known += [("", lit(colour, time)) for colour in (INK, WOOD, CREAM)] + [("", PANE)]
    sky = np.array(SKY[time], np.float32)
    for at in np.linspace(0, 2, 9):
        colour = tuple(float(np.interp(at, (0, 1, 2), channel)) for channel in sky.T)
        known.append(("", colour))
        if time != "night":
            known.append(("", mix(colour, LIGHT[time], 0.3)))
    for land in LANDS:
        known += [(f"land {land}", tinted(colour, time)) for colour in LAND[land]]
    names = tuple(dict.fromkeys(name for name, _ in known))
    numbers = np.array([names.index(name) for name, _ in known], np.uint8)
    colours = np.array([colour for _, colour in known], np.float32)
    axis = np.arange(64, dtype=np.float32) * 4 + 2
    cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distances = np.square(colours).sum(-1) - 2 * cells @ colours.T  # squared, less what all have alike
    return Classes(names, numbers[distances.argmin(-1)].reshape(64, 64, 64))


def _labels(small: Array, time: str) -> NDArray[np.uint8]:
    red, green, blue = (small.astype(np.uint8) >> 2).transpose(2, 0, 1)
    labels: NDArray[np.uint8] = _classes(time).table[red, green, blue]
    return labels


def _mask(name: str, time: str, small: Array, labels: NDArray[np.uint8]) -> Mask:
    """Where a colour is: nearest to it of all; for the pale ones, which lie close, just near."""
    nearest: Mask = labels == _classes(time).names.index(name)
    if name not in PALE or (name == "light" and time != "night"):
        return nearest
    if name == "white":
        paint = Paint.of(name, time)
        centre = mix(paint.body, paint.shade, 0.5)
    else:
        centre = LIGHT[time] if name == "light" else CLOUD[time]
    near: Mask = np.square(small - np.array(centre, np.float32)).sum(-1) < PALE[name] ** 2
    return near | nearest if name == "white" else near


def _land(labels: NDArray[np.uint8], classes: Classes) -> str:
    """The land whose colours cover most of the picture's lower part; water counts before its beach."""
    lower = labels[int(0.42 * len(labels)) :]
    counts = np.bincount(lower.ravel(), minlength=len(classes.names))
    return max(LANDS, key=lambda land: counts[classes.names.index(f"land {land}")])


def _stars(small: Array) -> int:
    """How many bright dots stand out from the upper half of a night's sky."""
    upper = small[: int(0.5 * len(small))].mean(-1)
    bright = upper > np.median(upper, axis=1, keepdims=True) + 36
    return sum(1 for patch in patches(bright, 1) if len(patch) <= 16)


Patch = NDArray[np.int64]  # (n, 2): y and x of its pixels, at half size


def patches(mask: Mask, least: int = LEAST) -> list[Patch]:
    """The connected patches (by sides) of at least that many pixels, from the top."""
    width = mask.shape[1] + 1  # a free column, so that rows do not touch
    left = set((np.argwhere(mask) @ (width, 1)).tolist())
    found = []
    while left:
        seed = left.pop()
        stack, members = [seed], [seed]
        while stack:
            at = stack.pop()
            for near in (at - 1, at + 1, at - width, at + width):
                if near in left:
                    left.remove(near)
                    stack.append(near)
                    members.append(near)
        if len(members) >= least:
            found.append(np.stack(np.divmod(np.array(sorted(members)), width), -1))
    return sorted(found, key=lambda patch: tuple(patch[0]))


@dataclass(frozen=True, slots=True)
class Outline:
    """The shape on record of one kind and size: its box, what of each cell it covers, where its foot is."""

    kind: str
    size: str
    width: float
    height: float
    cells: Array
    foot: tuple[float, float]  # from the patch's centre x and bottom to the sprite's, pixels


@dataclass(frozen=True, slots=True)
class Match:
    """The outline that a patch is nearest to, and where that puts the subject, pixels."""

    kind: str
    size: str
    x: float
    y: float
    distance: float


def _match(patch: Patch, name: str, time: str) -> Match | None:
    cells, (top, left, bottom, right) = _cells(patch)
    known, grids, sides = _outlines(name, time)
    stretch = np.abs(np.log(np.array([right - left, bottom - top]) / sides)).sum(1)
    distances = np.abs(cells - grids).mean((1, 2)) + 0.35 * stretch
    nearest = int(distances.argmin())
    if distances[nearest] >= TOLERANCE:
        return None
    outline = known[nearest]
    x, y = left + right + outline.foot[0], 2 * bottom + outline.foot[1]
    return Match(outline.kind, outline.size, float(x), float(y), float(distances[nearest]))


def _cells(patch: Patch) -> tuple[Array, tuple[int, int, int, int]]:
    """How much of each cell of its own box a patch covers, and that box: top, left, bottom, right."""
    top, left = patch.min(0)
    bottom, right = patch.max(0) + 1
    mask = np.zeros((bottom - top, right - left), np.uint8)
    mask[patch[:, 0] - top, patch[:, 1] - left] = 255
    cells = Image.fromarray(mask).resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(cells, np.float32) / np.float32(255), (int(top), int(left), int(bottom), int(right))


@cache
def _outlines(name: str, time: str) -> tuple[list[Outline], Array, Array]:
    """The outlines on record for a colour: its sprites read back; their cells and sides."""
    ground = (150, 190, 120)
    found = []
    if name in COLOURS:
        for kind in KINDS:
            found += [
                _outline(sprite(kind, name, size, time), kind, size, ground, name, time) for size in SIZES
            ]
    if name == "light":
        for crescent in (False, True) if time == "night" else (False,):
            kind = "sun" if time != "night" else "crescent" if crescent else "full"
            found.append(_outline(disc(time, crescent), kind, "", SKY[time][1], name, time))
    if name == "cloud":
        found += [_outline(puff(time, shape), "cloud", "", SKY[time][1], name, time) for shape in (0, 1)]
    sides = np.array([(outline.width, outline.height) for outline in found], np.float32)
    return found, np.stack([outline.cells for outline in found]), sides


def _outline(
    picture: Image.Image, kind: str, size: str, ground: tuple[int, ...], name: str, time: str
) -> Outline:
    width, height = (side // 2 * 2 + 16 for side in picture.size)
    canvas = Image.new("RGB", (width, height), ground)
    canvas.paste(picture, (8, 8), picture)
    small = _halved(np.asarray(canvas))
    patch = max(patches(_mask(name, time, small, _labels(small, time)), 1), key=len)
    cells, (top, left, bottom, right) = _cells(patch)
    foot = 8 + picture.width / 2 - (left + right), 8 + picture.height - 2 * bottom
    return Outline(kind, size, right - left, bottom - top, cells, foot)
