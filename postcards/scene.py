"""Scenes: what stands where on one postcard, and how they are drawn by lot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from postcards.palette import COLOURS, LANDS, TIMES
from postcards.sprites import KINDS, SIZES

SNAP = 16  # pixels: places come in multiples of it, so that a small model can be exact about edges
MARGIN = 6  # pixels kept free round each subject
FORMATS = (  # width, height
    (256, 256),
    (192, 256),
    (256, 192),
    (320, 192),
    (192, 320),
    (320, 256),
    (256, 320),
    (224, 224),
)
FORMAT_ODDS = (0.44, *(0.08,) * (len(FORMATS) - 1))
SCALES = (1, 2)  # that a scene is drawn at
MOST = 4  # subjects in a scene
COLUMNS = {"left": (0.17, 0.29), "centre": (0.44, 0.5, 0.56), "right": (0.71, 0.83)}  # shares of the width
ABOVE = (0.2, 0.5, 0.8)  # where sun, moon and clouds stand
LEVELS = (0.2, 0.8)  # of the height that a thing in the sky or on the water may have
VIEWS = 16  # of each land: its ridges, waves, plants, and the stars above
CLOUD_BOX = (64, 32)  # width, height
LIGHT_RADIUS = 18  # pixels, of the sun's and the moon's disc

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing: its kind and looks, the centre x and the base y, in pixels."""

    kind: str
    colour: str
    size: str
    x: int
    y: int

    @property
    def extent(self) -> tuple[int, int]:
        """Width and height, pixels."""
        kind = KINDS[self.kind]
        return kind.small if self.size == "small" else kind.big

    @property
    def box(self) -> Box:
        """Where its sprite goes."""
        width, height = self.extent
        return self.x - width / 2, self.y - height, self.x + width / 2, float(self.y)


@dataclass(frozen=True, slots=True)
class Group:
    """One to three like subjects side by side; a scene has at most one group of a kind."""

    members: tuple[Subject, ...]

    @property
    def kind(self) -> str:
        """The members' kind."""
        return self.members[0].kind

    @property
    def x(self) -> float:
        """Centre of the group, pixels."""
        return sum(member.x for member in self.members) / len(self.members)


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that a postcard shows."""

    width: int
    height: int
    time: str
    land: str
    horizon: int  # y where the land, or the sea, begins
    groups: tuple[Group, ...]
    light: tuple[int, int] | None  # centre of the sun, at night of the moon
    crescent: bool  # the moon's shape
    clouds: tuple[tuple[int, int, int], ...]  # centre x, centre y, shape
    stars: bool
    decor: int  # which of the land's views, which no caption speaks of

    @property
    def shore(self) -> int:
        """Y where a sea ends and the beach begins."""
        return self.height - 56


def overlap(a: Box, b: Box, margin: float = 0) -> bool:
    """Whether two boxes come closer than `margin` pixels."""
    return a[0] < b[2] + margin and b[0] < a[2] + margin and a[1] < b[3] + margin and b[1] < a[3] + margin


def sample(seed: int, index: int, size: tuple[int, int] | None = None) -> Scene:
    """Scene `index` of the endless row that `seed` starts; equal arguments give equal scenes."""
    return _Sampler(np.random.default_rng([seed, index]), size).scene()


class _Sampler:
    """Places things one after another, dropping what finds no free place in a few tries."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int] | None) -> None:
        self.rng = rng
        self.width, self.height = size or FORMATS[int(rng.choice(len(FORMATS), p=FORMAT_ODDS))]
        self.time = self._pick(TIMES)
        self.land = self._pick(LANDS)
        share = 0.5 + 0.0625 * int(rng.integers(2))
        self.horizon = _snap(self.height * share)
        self.taken: list[Box] = []

    def scene(self) -> Scene:
        groups: list[Group] = []
        wanted = int(self.rng.choice((1, 2, 3), p=(0.3, 0.45, 0.25)))
        while len(groups) < wanted and (room := MOST - sum(len(group.members) for group in groups)):
            group = self._group({group.kind for group in groups}, room)
            if group is not None:
                groups.append(group)
                self.taken += [member.box for member in group.members]
            elif groups:
                break
        light = self._light() if self.rng.random() < 0.55 else None
        if light is not None:
            x, y, r = *light, LIGHT_RADIUS + 6
            self.taken.append((x - r, y - r, x + r, y + r))
        clouds = self._clouds(int(self.rng.choice((0, 1, 2, 3), p=(0.45, 0.25, 0.2, 0.1))))
        return Scene(
            width=self.width,
            height=self.height,
            time=self.time,
            land=self.land,
            horizon=self.horizon,
            groups=tuple(groups),
            light=light,
            crescent=bool(self.rng.random() < 0.5),
            clouds=clouds,
            stars=self.time == "night" and bool(self.rng.random() < 0.6),
            decor=int(self.rng.integers(VIEWS)),
        )

    def _pick(self, choices: tuple[str, ...]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def _share(self, choices: tuple[float, ...]) -> float:
        return choices[int(self.rng.integers(len(choices)))]

    def _group(self, used: set[str], room: int) -> Group | None:
        homes = (
            ("ground", "ground", "sky", "water", "water")
            if self.land == "sea"
            else ("ground", "ground", "sky")
        )
        home = self._pick(homes)
        kinds = tuple(k.name for k in KINDS.values() if k.home == home and k.name not in used)
        if not kinds:
            return None
        kind = self._pick(kinds)
        colours = tuple(c for c in COLOURS if not (c == "white" and self.land == "snow" and home == "ground"))
        colour = self._pick(colours)
        count = min(int(self.rng.choice((1, 2, 3), p=(0.76, 0.14, 0.1))), room)
        size = self._pick(SIZES) if count == 1 else "small"
        for _ in range(12):
            group = self._placed(kind, colour, size, count, home)
            if group is not None:
                return group
        return None

    def _placed(self, kind: str, colour: str, size: str, count: int, home: str) -> Group | None:
        record = KINDS[kind]
        width, height = record.small if size == "small" else record.big
        pitch = _snap(width + SNAP)
        middle = _snap(self.width * self._share(COLUMNS[self._pick(tuple(COLUMNS))]))
        base = self._base(home, height)
        first = _snap(middle - (count - 1) / 2 * pitch)
        xs = [first + i * pitch for i in range(count)]
        group = Group(tuple(Subject(kind, colour, size, x, base) for x in xs))
        for member in group.members:
            left, top, right, _ = member.box
            if left < 2 or right > self.width - 2 or top < 2:
                return None
            if any(overlap(member.box, other, MARGIN) for other in self.taken):
                return None
        return group

    def _base(self, home: str, height: int) -> int:
        if home == "sky":
            return _snap(height + 4 + self._share(LEVELS) * max(0, self.horizon + 8 - height - 4))
        if home == "water":
            low, high = self.horizon + 16, self.height - 64
            return _snap(low + self._share(LEVELS) * (high - low))
        near = self.land == "sea" or self.rng.random() < 0.5
        return self.height - SNAP if near else self.horizon + 2 * SNAP

    def _light(self) -> tuple[int, int] | None:
        room = {"sea": 0.95, "desert": 0.75, "snow": 0.7, "hills": 0.6, "mountains": 0.45}[self.land]
        reach = max(LIGHT_RADIUS + 8, self.horizon * room - LIGHT_RADIUS - 4)
        for _ in range(12):
            x = _snap(self.width * self._share(ABOVE))
            y = _snap(LIGHT_RADIUS + 8 + self._share(LEVELS) * (reach - LIGHT_RADIUS - 8))
            r = LIGHT_RADIUS + 4
            if not any(overlap((x - r, y - r, x + r, y + r), other, MARGIN) for other in self.taken):
                return x, y
        return None

    def _clouds(self, count: int) -> tuple[tuple[int, int, int], ...]:
        """At most one in each third."""
        clouds: list[tuple[int, int, int]] = []
        width, height = CLOUD_BOX
        for column in self.rng.permutation(len(ABOVE)):
            if len(clouds) == count:
                break
            x, shape = _snap(self.width * ABOVE[int(column)]), int(self.rng.integers(2))
            for level in self.rng.permutation(LEVELS):
                y = _snap(height / 2 + 4 + float(level) * (self.horizon * 0.5 - height / 2))
                box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                if not any(overlap(box, other, MARGIN) for other in self.taken):
                    clouds.append((x, y, shape))
                    self.taken.append(box)
                    break
        return tuple(clouds)


def _snap(value: float) -> int:
    return round(value / SNAP) * SNAP
