"""The subjects, each drawn once per kind, colour, size and time of day, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import cos, pi, sin

from PIL import Image, ImageDraw

from postcards.palette import COLOURS, CREAM, GLOW, INK, PANE, RGB, WOOD, lit, mix

OVERSAMPLING = 8  # per side; a sprite is drawn that much larger, then averaged


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of subject: where it lives and how many pixels it covers."""

    name: str
    home: str  # "ground", "water" or "sky"
    small: tuple[int, int]  # width, height
    big: tuple[int, int]
    plural: str


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("house", "ground", (48, 48), (80, 80), "houses"),
        Kind("lighthouse", "ground", (32, 72), (48, 112), "lighthouses"),
        Kind("windmill", "ground", (56, 64), (88, 104), "windmills"),
        Kind("tent", "ground", (56, 40), (88, 64), "tents"),
        Kind("tree", "ground", (44, 56), (72, 92), "trees"),
        Kind("pine", "ground", (40, 60), (64, 100), "pines"),
        Kind("cat", "ground", (40, 44), (64, 72), "cats"),
        Kind("fox", "ground", (56, 40), (88, 64), "foxes"),
        Kind("rabbit", "ground", (36, 48), (56, 76), "rabbits"),
        Kind("boat", "water", (52, 52), (84, 84), "boats"),
        Kind("balloon", "sky", (44, 60), (68, 92), "balloons"),
        Kind("kite", "sky", (40, 60), (60, 92), "kites"),
    )
}
SIZES = ("small", "big")


class Pen:
    """Draws in a box of 0–1 by 0–1, y downwards, onto an oversampled canvas."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width * OVERSAMPLING, height * OVERSAMPLING
        self.image = Image.new("RGBA", (self.width, self.height), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, points: Sequence[tuple[float, float]], colour: RGB) -> None:
        """A filled polygon."""
        self.draw.polygon([(x * self.width, y * self.height) for x, y in points], fill=(*colour, 255))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: RGB) -> None:
        """A filled rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: RGB) -> None:
        """A filled ellipse round (x, y)."""
        box = ((x - rx) * self.width, (y - ry) * self.height, (x + rx) * self.width, (y + ry) * self.height)
        self.draw.ellipse(box, fill=(*colour, 255))

    def curve(self, points: Sequence[tuple[float, float]], colour: RGB) -> None:
        """A filled closed curve through the points (Catmull–Rom, eight pieces a span)."""
        n = len(points)
        smooth = []
        for i in range(n):
            p0, p1, p2, p3 = (points[(i + j) % n] for j in (-1, 0, 1, 2))
            for step in range(8):
                t = step / 8
                smooth.append(
                    (_spline(p0[0], p1[0], p2[0], p3[0], t), _spline(p0[1], p1[1], p2[1], p3[1], t))
                )
        self.polygon(smooth, colour)

    def finish(self, scale: int = 1) -> Image.Image:
        """The picture at `scale` times its size; colours run on under transparent edges."""
        return self.image.convert("RGBa").reduce(OVERSAMPLING // scale).convert("RGBA")


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


@dataclass(frozen=True, slots=True)
class Paint:
    """The colours one sprite is drawn with."""

    body: RGB
    shade: RGB  # the body's darker side
    trim: RGB  # light parts that are not the body
    dark: RGB
    wood: RGB
    pane: RGB  # windows: lit after sunset

    @classmethod
    def of(cls, colour: str, time: str) -> Paint:
        """The paint of a colour's name at a time."""
        body = COLOURS[colour]
        trim = CREAM if colour != "white" else (208, 196, 190)
        pane = GLOW if time in ("dusk", "night") else PANE
        return cls(
            lit(body, time),
            lit(mix(body, INK, 0.16 if colour != "white" else 0.07), time),
            lit(trim, time),
            lit(INK, time),
            lit(WOOD, time),
            pane,
        )


def _house(pen: Pen, p: Paint) -> None:
    pen.box(0.7, 0.06, 0.82, 0.3, p.dark)
    pen.box(0.1, 0.4, 0.9, 1, p.body)
    pen.polygon([(0.5, 0.02), (1, 0.46), (0, 0.46)], p.dark)
    pen.box(0.4, 0.64, 0.6, 1, p.wood)
    pen.box(0.18, 0.58, 0.32, 0.76, p.pane)
    pen.box(0.68, 0.58, 0.82, 0.76, p.pane)


def _lighthouse(pen: Pen, p: Paint) -> None:
    pen.polygon([(0.26, 0.24), (0.74, 0.24), (0.92, 1), (0.08, 1)], p.body)
    pen.polygon([(0.22, 0.42), (0.78, 0.42), (0.82, 0.56), (0.18, 0.56)], p.shade)
    pen.polygon([(0.14, 0.74), (0.86, 0.74), (0.89, 0.88), (0.11, 0.88)], p.shade)
    pen.box(0.3, 0.1, 0.7, 0.21, GLOW)
    pen.box(0.16, 0.2, 0.84, 0.25, p.dark)
    pen.polygon([(0.5, 0), (0.8, 0.11), (0.2, 0.11)], p.dark)
    pen.box(0.42, 0.3, 0.58, 0.37, p.pane)
    pen.box(0.42, 0.61, 0.58, 0.68, p.pane)
    pen.box(0.38, 0.89, 0.62, 1, p.wood)


def _windmill(pen: Pen, p: Paint) -> None:
    pen.polygon([(0.35, 0.42), (0.65, 0.42), (0.78, 1), (0.22, 1)], p.body)
    pen.ellipse(0.5, 0.42, 0.155, 0.13, p.dark)
    pen.box(0.43, 0.8, 0.57, 1, p.wood)
    pen.box(0.45, 0.6, 0.55, 0.69, p.pane)
    x, y, ratio = 0.5, 0.4, pen.width / pen.height
    for quarter in range(4):
        angle = quarter * pi / 2 + pi / 4
        ux, uy = cos(angle), sin(angle)
        vx, vy = -uy, ux
        reach, near, wide = 0.5, 0.1, 0.1
        blade = [(near, 0), (reach, 0), (reach, wide), (near, wide)]
        pen.polygon([(x + a * ux + b * vx, y + (a * uy + b * vy) * ratio) for a, b in blade], p.trim)
    pen.ellipse(x, y, 0.05, 0.05 * ratio, p.dark)


def _tent(pen: Pen, p: Paint) -> None:
    pen.polygon([(0.5, 0.06), (1, 1), (0, 1)], p.body)
    pen.polygon([(0.5, 0.06), (1, 1), (0.66, 1)], p.shade)
    pen.polygon([(0.44, 0.3), (0.62, 1), (0.26, 1)], p.dark)
    pen.box(0.485, 0, 0.515, 0.14, p.wood)


def _tree(pen: Pen, p: Paint) -> None:
    pen.polygon([(0.43, 0.55), (0.57, 0.55), (0.62, 1), (0.38, 1)], p.wood)
    for x, y, r in ((0.5, 0.26, 0.3), (0.24, 0.44, 0.24), (0.76, 0.44, 0.24), (0.5, 0.5, 0.3)):
        pen.ellipse(x, y, r, r * pen.width / pen.height, p.body)
    for x, y in ((0.36, 0.26), (0.66, 0.36), (0.3, 0.48), (0.54, 0.52)):
        pen.ellipse(x, y, 0.055, 0.055 * pen.width / pen.height, p.shade)


def _pine(pen: Pen, p: Paint) -> None:
    pen.box(0.42, 0.84, 0.58, 1, p.wood)
    for top, bottom, half in ((0.5, 0.88, 0.5), (0.25, 0.62, 0.4), (0.0, 0.36, 0.29)):
        pen.polygon([(0.5, top), (0.5 + half, bottom), (0.5 - half, bottom)], p.body)
        pen.polygon([(0.5, top), (0.5 + half, bottom), (0.5 + half * 0.3, bottom)], p.shade)


def _cat(pen: Pen, p: Paint) -> None:
    tail = [
        (0.66, 0.9),
        (0.86, 0.84),
        (0.88, 0.62),
        (0.8, 0.46),
        (0.9, 0.4),
        (1.0, 0.58),
        (0.98, 0.86),
        (0.84, 1.0),
    ]
    pen.curve(tail, p.body)
    pen.curve(
        [(0.4, 0.44), (0.62, 0.5), (0.78, 0.78), (0.76, 0.99), (0.2, 0.99), (0.2, 0.7), (0.26, 0.5)], p.body
    )
    pen.ellipse(0.38, 0.31, 0.27, 0.215, p.body)
    pen.polygon([(0.13, 0.28), (0.13, 0.0), (0.35, 0.13)], p.body)
    pen.polygon([(0.63, 0.28), (0.63, 0.0), (0.41, 0.13)], p.body)
    pen.ellipse(0.27, 0.3, 0.045, 0.045, p.dark)
    pen.ellipse(0.49, 0.3, 0.045, 0.045, p.dark)
    pen.polygon([(0.34, 0.38), (0.42, 0.38), (0.38, 0.43)], p.dark)
    pen.ellipse(0.4, 0.68, 0.1, 0.12, p.trim)


def _fox(pen: Pen, p: Paint) -> None:
    tail = [(0.7, 0.62), (0.82, 0.34), (0.96, 0.24), (1.0, 0.46), (0.94, 0.7), (0.8, 0.82)]
    pen.curve(tail, p.body)
    pen.polygon([(0.99, 0.22), (1.0, 0.44), (0.9, 0.38), (0.86, 0.3)], p.trim)
    for x in (0.28, 0.39, 0.66, 0.76):
        pen.polygon([(x - 0.04, 0.7), (x + 0.05, 0.7), (x + 0.035, 1), (x - 0.035, 1)], p.dark)
    pen.curve(
        [(0.24, 0.46), (0.5, 0.44), (0.76, 0.48), (0.82, 0.64), (0.76, 0.8), (0.5, 0.8), (0.27, 0.82)], p.body
    )
    pen.polygon([(0.0, 0.42), (0.13, 0.22), (0.4, 0.2), (0.44, 0.46), (0.28, 0.64), (0.14, 0.56)], p.body)
    pen.polygon([(0.11, 0.28), (0.13, 0.0), (0.26, 0.22)], p.body)
    pen.polygon([(0.25, 0.24), (0.35, 0.0), (0.42, 0.26)], p.body)
    pen.polygon([(0.0, 0.42), (0.12, 0.42), (0.28, 0.64), (0.14, 0.56)], p.trim)
    pen.ellipse(0.18, 0.34, 0.028, 0.04, p.dark)
    pen.ellipse(0.015, 0.42, 0.025, 0.035, p.dark)


def _rabbit(pen: Pen, p: Paint) -> None:
    pen.curve([(0.22, 0.34), (0.14, 0.12), (0.2, 0.0), (0.32, 0.08), (0.38, 0.34)], p.body)
    pen.curve([(0.42, 0.34), (0.46, 0.08), (0.58, 0.0), (0.64, 0.12), (0.56, 0.36)], p.body)
    pen.ellipse(0.88, 0.84, 0.12, 0.09, p.trim)
    pen.curve(
        [(0.3, 0.5), (0.6, 0.5), (0.9, 0.74), (0.88, 0.98), (0.5, 1.0), (0.14, 0.99), (0.22, 0.74)], p.body
    )
    pen.ellipse(0.38, 0.42, 0.28, 0.175, p.body)
    pen.ellipse(0.26, 0.4, 0.045, 0.034, p.dark)
    pen.ellipse(0.5, 0.4, 0.045, 0.034, p.dark)
    pen.ellipse(0.38, 0.47, 0.05, 0.026, p.dark)
    pen.ellipse(0.4, 0.76, 0.13, 0.11, p.trim)


def _boat(pen: Pen, p: Paint) -> None:
    pen.box(0.47, 0.0, 0.51, 0.8, p.wood)
    pen.polygon([(0.47, 0.02), (0.47, 0.74), (0.04, 0.74)], p.body)
    pen.polygon([(0.54, 0.14), (0.9, 0.7), (0.54, 0.7)], p.trim)
    pen.polygon([(0, 0.76), (1, 0.76), (0.84, 1), (0.16, 1)], p.body)
    pen.box(0.1, 0.72, 0.47, 0.79, p.body)
    pen.polygon([(0.05, 0.84), (0.95, 0.84), (0.91, 0.9), (0.09, 0.9)], p.shade)


def _balloon(pen: Pen, p: Paint) -> None:
    ratio = pen.width / pen.height
    pen.polygon([(0.2, 0.52), (0.8, 0.52), (0.62, 0.8), (0.38, 0.8)], p.body)
    pen.ellipse(0.5, 0.5 * ratio, 0.5, 0.5 * ratio, p.body)
    pen.ellipse(0.5, 0.5 * ratio, 0.2, 0.5 * ratio, p.shade)
    pen.polygon([(0.31, 0.52), (0.69, 0.52), (0.56, 0.8), (0.44, 0.8)], p.shade)
    pen.polygon([(0.38, 0.78), (0.41, 0.78), (0.43, 0.9), (0.4, 0.9)], p.dark)
    pen.polygon([(0.62, 0.78), (0.59, 0.78), (0.57, 0.9), (0.6, 0.9)], p.dark)
    pen.box(0.37, 0.87, 0.63, 1, p.wood)


def _kite(pen: Pen, p: Paint) -> None:
    pen.polygon(
        [
            (0.48, 0.6),
            (0.54, 0.6),
            (0.62, 0.74),
            (0.44, 0.86),
            (0.54, 1.0),
            (0.48, 1.0),
            (0.37, 0.86),
            (0.55, 0.74),
        ],
        p.dark,
    )
    pen.polygon([(0.5, 0), (1, 0.28), (0.5, 0.68), (0, 0.28)], p.body)
    pen.polygon([(0.5, 0), (1, 0.28), (0.5, 0.28)], p.shade)
    pen.polygon([(0.5, 0.28), (0.5, 0.68), (0, 0.28)], p.shade)
    pen.polygon([(0.36, 0.76), (0.52, 0.82), (0.36, 0.9)], p.trim)


_DRAW: dict[str, Callable[[Pen, Paint], None]] = {
    "house": _house,
    "lighthouse": _lighthouse,
    "windmill": _windmill,
    "tent": _tent,
    "tree": _tree,
    "pine": _pine,
    "cat": _cat,
    "fox": _fox,
    "rabbit": _rabbit,
    "boat": _boat,
    "balloon": _balloon,
    "kite": _kite,
}


@cache
def sprite(kind: str, colour: str, size: str, time: str, scale: int = 1) -> Image.Image:
    """The subject as RGBA, cropped to its box, `scale` times as large."""
    record = KINDS[kind]
    width, height = record.small if size == "small" else record.big
    pen = Pen(width, height)
    _DRAW[kind](pen, Paint.of(colour, time))
    return pen.finish(scale)
