"""Draws a scene: a gradient sky, land in layers with smooth edges, and the subjects' sprites."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from postcards.palette import CLOUD, LAND, LIGHT, RGB, SKY, lit, mix, tinted
from postcards.scene import CLOUD_BOX, LIGHT_RADIUS, SNAP, Scene
from postcards.sprites import Pen, sprite

Canvas = NDArray[np.float32]  # (height, width, 3), 0–255
Pixels = NDArray[np.uint8]  # (height, width, 3)
Curve = NDArray[np.float32]  # (columns,): y of an edge, before scaling, in each column of the canvas

CACTUS, FIR = (20, 28), (20, 32)  # width, height
SHADE = 10  # height of a shadow


def draw(scene: Scene, scale: int = 1) -> Pixels:
    """The postcard, (scale · height, scale · width, 3) RGB. Equal arguments give equal pixels.

    All edges are drawn at the larger size, none is enlarged; `scale` divides OVERSAMPLING.
    """
    rng = np.random.default_rng(scene.decor)
    canvas = _sky(scene, scale)
    image = Image.fromarray(_levels(canvas))
    if scene.stars:
        _stars(image, scale, scene, np.random.default_rng([scene.decor, 1]))
    if scene.light is not None:
        _paste(image, scale, disc(scene.time, scene.crescent, scale), *scene.light)
    for x, y, shape in scene.clouds:
        _paste(image, scale, puff(scene.time, shape, scale), x, y)
    image = _LAND[scene.land](image, scale, scene, rng)
    members = [member for group in scene.groups for member in group.members]
    for member in sorted(members, key=lambda member: member.y):
        picture = sprite(member.kind, member.colour, member.size, scene.time, scale)
        left, top = (int(side) for side in member.box[:2])
        if member.y > scene.horizon + 8:
            shade = _shadow(member.extent[0], member.kind == "boat", scene.time, scale)
            _put(image, scale, shade, left - 4, member.y - SHADE // 2 - 1)
        _put(image, scale, picture, left, top)
    return np.asarray(image)


def _sky(scene: Scene, scale: int) -> Canvas:
    stops = np.array(SKY[scene.time], np.float32)
    horizon = scene.horizon * scale
    at = np.linspace(0, 2, horizon, dtype=np.float32)
    columns = [np.interp(at, (0, 1, 2), stops[:, channel]) for channel in range(3)]
    canvas = np.empty((scene.height * scale, scene.width * scale, 3), np.float32)
    canvas[:horizon] = np.stack(columns, -1)[:, None]
    canvas[horizon:] = stops[2]
    return canvas


def _levels(canvas: Canvas) -> Pixels:
    return (canvas + np.float32(0.5)).astype(np.uint8)


def _ridge(canvas: Canvas, scale: int, edge: Curve, colour: RGB, slope: Curve | float = 0.0) -> None:
    """Fill everything below `edge`; its border is one pixel soft whatever the slope."""
    edge = edge * scale
    top, bottom = max(0, int(edge.min()) - 2), max(0, int(edge.max()) + 3)
    paint = np.array(colour, np.float32)
    y = np.arange(top, min(bottom, len(canvas)), dtype=np.float32)[:, None] + 0.5
    cover = np.clip((y - edge) / np.sqrt(1 + np.square(slope)) + 0.5, 0, 1)[..., None]
    band = canvas[top:bottom]
    band += cover * (paint - band)
    canvas[bottom:] = paint


def _wave(scale: int, width: int, length: float, height: float, phase: int) -> tuple[Curve, Curve]:
    """A cosine edge, a value for each drawn column, and its slope; `phase` in steps of the grid."""
    at = (np.arange(width * scale, dtype=np.float32) + np.float32(0.5)) / np.float32(scale)
    angle = (at + phase * SNAP) * np.float32(2 * np.pi / length)
    return height * np.cos(angle), -height * np.float32(2 * np.pi / length) * np.sin(angle)


def _roll(
    canvas: Canvas,
    scale: int,
    rng: np.random.Generator,
    y: float,
    height: float,
    length: float,
    colour: RGB,
) -> None:
    edge, slope = _wave(scale, canvas.shape[1] // scale, length, height, int(rng.integers(16)))
    _ridge(canvas, scale, y + edge, colour, slope)


def _open(image: Image.Image) -> Canvas:
    return np.asarray(image).astype(np.float32)


def _sea(image: Image.Image, scale: int, scene: Scene, rng: np.random.Generator) -> Image.Image:
    canvas, time = _open(image), scene.time
    far, mid, near, sand = (tinted(colour, time) for colour in LAND["sea"])
    depth = scene.shore - scene.horizon
    edges = (scene.horizon, scene.horizon + depth * 0.25, scene.horizon + depth * 0.6)
    for y, colour in zip(edges, (far, mid, near), strict=True):
        _ridge(canvas, scale, np.full(scene.width * scale, round(y / 4) * 4, np.float32), colour)
    foam = mix(near, (255, 255, 255), 0.55)
    edge, slope = _wave(scale, scene.width, 128, 3, int(rng.integers(8)))
    _ridge(canvas, scale, scene.shore - 6 + edge, foam, slope)
    _ridge(canvas, scale, scene.shore + edge, mix(sand, near, 0.25), slope)
    _ridge(canvas, scale, scene.shore + 10 + edge, sand, slope)
    image = Image.fromarray(_levels(canvas))
    dash = _dash(mix(mid, (255, 255, 255), 0.4), 20, scale)
    for _ in range(scene.width // 32):
        x = 16 * int(rng.integers(1, scene.width // 16))
        y = scene.horizon + 12 + 16 * int(rng.integers(max(1, (depth - 20) // 16)))
        _paste(image, scale, dash, x, y)
    if scene.light is not None:
        glint = mix(LIGHT[time], far, 0.15)
        for row, length in enumerate((36, 20, 28, 16, 24, 12)):
            y = scene.horizon + 6 + 8 * row
            if y < scene.shore - 12:
                x = scene.light[0] + (4 if row % 2 else -4)
                _paste(image, scale, _dash(glint, length, scale), x, y)
    return image


def _hills(image: Image.Image, scale: int, scene: Scene, rng: np.random.Generator) -> Image.Image:
    canvas, y, rise = _open(image), scene.horizon, scene.height * 0.11
    colours = [tinted(colour, scene.time) for colour in LAND["hills"]]
    _roll(canvas, scale, rng, y - rise, 14, 192, colours[0])
    _roll(canvas, scale, rng, y - rise * 0.4, 12, 256, colours[1])
    _roll(canvas, scale, rng, y + 10, 5, 320, colours[2])
    _roll(canvas, scale, rng, scene.height - 50, 5, 384, colours[3])
    return Image.fromarray(_levels(canvas))


def _mountains(image: Image.Image, scale: int, scene: Scene, rng: np.random.Generator) -> Image.Image:
    tall = _snap(scene.horizon * 0.55)
    count = max(2, scene.width // 88)
    spread = scene.width / count
    for far in (True, False):
        for i in range(count + int(far)):
            x = 16 * round((spread * (i + (0 if far else 0.5)) + 16 * int(rng.integers(-1, 2))) / 16)
            height = _snap(tall * (0.72 if far else (0.8, 1.0)[int(rng.integers(2))]))
            _put(image, scale, _peak(height, scene.time, far, scale), x - height, scene.horizon + 12 - height)
    canvas = _open(image)
    colours = [tinted(colour, scene.time) for colour in LAND["mountains"]]
    _roll(canvas, scale, rng, scene.horizon + 6, 4, 256, colours[2])
    _roll(canvas, scale, rng, scene.height - 50, 5, 384, colours[3])
    return Image.fromarray(_levels(canvas))


def _desert(image: Image.Image, scale: int, scene: Scene, rng: np.random.Generator) -> Image.Image:
    canvas, y = _open(image), scene.horizon
    colours = [tinted(colour, scene.time) for colour in LAND["desert"]]
    _roll(canvas, scale, rng, y - 10, 9, 256, colours[0])
    _roll(canvas, scale, rng, y + 6, 7, 192, colours[1])
    _roll(canvas, scale, rng, (y + scene.height) / 2 - 4, 6, 256, colours[2])
    _roll(canvas, scale, rng, scene.height - 40, 6, 384, colours[3])
    image = Image.fromarray(_levels(canvas))
    plant = _cactus(scene.time, scale)
    for _ in range(1 + int(rng.integers(3))):
        x = 16 * int(rng.integers(1, scene.width // 16))
        _put(image, scale, plant, x - CACTUS[0] // 2, y + 12 - CACTUS[1])
    return image


def _snow(image: Image.Image, scale: int, scene: Scene, rng: np.random.Generator) -> Image.Image:
    canvas, y = _open(image), scene.horizon
    colours = [tinted(colour, scene.time) for colour in LAND["snow"]]
    _roll(canvas, scale, rng, y - 18, 12, 256, colours[0])
    _roll(canvas, scale, rng, y + 2, 7, 192, colours[1])
    image = Image.fromarray(_levels(canvas))
    fir = _fir(scene.time, scale)
    for _ in range(2 + int(rng.integers(4))):
        x = 16 * int(rng.integers(scene.width // 16 + 1))
        _put(image, scale, fir, x - FIR[0] // 2, y + 14 - FIR[1])
    canvas = _open(image)
    _roll(canvas, scale, rng, y + 16, 4, 256, colours[2])
    _roll(canvas, scale, rng, scene.height - 46, 5, 384, colours[3])
    return Image.fromarray(_levels(canvas))


_LAND = {"sea": _sea, "hills": _hills, "mountains": _mountains, "desert": _desert, "snow": _snow}


def _stars(image: Image.Image, scale: int, scene: Scene, rng: np.random.Generator) -> None:
    cells = [(x, y) for y in range(16, scene.horizon - 16, 32) for x in range(16, scene.width, 32)]
    for at in rng.permutation(len(cells))[: len(cells) * 2 // 3]:
        x, y = cells[int(at)]
        dx, dy = (SNAP * int(n) for n in rng.integers(-1, 2, 2))
        _paste(image, scale, _star(int(at) % 2, scale), x + dx, y + dy)


def _paste(image: Image.Image, scale: int, picture: Image.Image, x: int, y: int) -> None:
    """Around (x, y)."""
    _put(image, scale, picture, x - picture.width // scale // 2, y - picture.height // scale // 2)


def _put(image: Image.Image, scale: int, picture: Image.Image, left: int, top: int) -> None:
    image.paste(picture, (left * scale, top * scale), picture)


def _snap(value: float) -> int:
    return round(value / SNAP) * SNAP


@cache
def disc(time: str, crescent: bool, scale: int = 1) -> Image.Image:
    """The sun in its halo, or by night the moon."""
    side = 2 * LIGHT_RADIUS + 28
    pen, r = Pen(side, side), LIGHT_RADIUS / side
    colour = LIGHT[time]
    if time != "night":
        pen.ellipse(0.5, 0.5, 0.5, 0.5, colour)
        halo = pen.finish(scale)
        halo.putalpha(halo.getchannel("A").point(lambda a: round(a * 0.3)))
        pen = Pen(side, side)
        pen.ellipse(0.5, 0.5, r, r, colour)
        halo.alpha_composite(pen.finish(scale))
        return halo
    pen.ellipse(0.5, 0.5, r, r, colour)
    if crescent:
        pen.draw.ellipse(
            [(0.5 + (d - 1) * r) * pen.width for d in (0.55, -0.25, 2.35, 1.55)][:4], fill=(0, 0, 0, 0)
        )
    else:
        for dx, dy, size in ((-0.35, -0.2, 0.22), (0.3, 0.3, 0.28), (0.25, -0.45, 0.15)):
            pen.ellipse(0.5 + dx * r, 0.5 + dy * r, size * r, size * r, mix(colour, SKY["night"][1], 0.1))
    return pen.finish(scale)


@cache
def puff(time: str, shape: int, scale: int = 1) -> Image.Image:
    """A cloud of one of two shapes."""
    width, height = CLOUD_BOX
    pen, colour = Pen(width, height), CLOUD[time]
    puffs = (
        ((0.2, 0.72, 0.11), (0.4, 0.52, 0.18), (0.64, 0.6, 0.15), (0.82, 0.76, 0.1)),
        ((0.16, 0.76, 0.1), (0.34, 0.62, 0.14), (0.6, 0.5, 0.18), (0.8, 0.72, 0.12)),
    )[shape]
    for x, y, r in puffs:
        pen.ellipse(x, y, r, r * width / height, colour)
    pen.draw.rectangle((0, round(0.86 * pen.height), pen.width, pen.height), fill=(0, 0, 0, 0))
    pen.box(0.16, 0.7, 0.86, 0.86, colour)
    return pen.finish(scale)


@cache
def _star(shape: int, scale: int) -> Image.Image:
    pen = Pen(10, 10)
    if shape:
        points = [(0.5, 0), (0.6, 0.4), (1, 0.5), (0.6, 0.6), (0.5, 1), (0.4, 0.6), (0, 0.5), (0.4, 0.4)]
        pen.polygon(points, LIGHT["night"])
    else:
        pen.ellipse(0.5, 0.5, 0.19, 0.19, LIGHT["night"])
    return pen.finish(scale)


@cache
def _dash(colour: RGB, length: int, scale: int) -> Image.Image:
    pen = Pen(length, 4)
    pen.ellipse(2 / length, 0.5, 1.5 / length, 0.375, colour)
    pen.ellipse(1 - 2 / length, 0.5, 1.5 / length, 0.375, colour)
    pen.box(2 / length, 0.125, 1 - 2 / length, 0.875, colour)
    return pen.finish(scale)


@cache
def _peak(height: int, time: str, far: bool, scale: int) -> Image.Image:
    """A mountain with slopes of 45°, a shaded side and, when near, a cap of snow."""
    pen = Pen(2 * height, height)
    light, dark = (tinted(colour, time) for colour in LAND["mountains"][:2])
    if far:
        light, dark = mix(light, SKY[time][1], 0.45), mix(dark, SKY[time][1], 0.5)
    pen.polygon([(0.5, 0), (0, 1), (1, 1)], light)
    pen.polygon([(0.5, 0), (0.58, 0.4), (0.5, 0.7), (0.6, 1), (1, 1)], dark)
    if not far:
        cap = 24 / height
        white = tinted((250, 250, 255), time)
        zigzag = [(1, 1), (0.45, 0.78), (0.12, 1.1), (-0.4, 0.74), (-1, 1)]
        pen.polygon([(0.5, 0), *((0.5 + x * cap / 2, y * cap) for x, y in zigzag)], mix(white, dark, 0.06))
        pen.polygon([(0.5, 0), (0.5 + cap / 2, cap), (0.5 + 0.225 * cap, 0.78 * cap)], mix(white, dark, 0.3))
    return pen.finish(scale)


@cache
def _cactus(time: str, scale: int) -> Image.Image:
    pen, colour = Pen(*CACTUS), tinted((112, 148, 110), time)
    pen.box(0.4, 0.1, 0.6, 1, colour)
    pen.ellipse(0.5, 0.1, 0.1, 0.08, colour)
    for x, top, elbow in ((0.1, 0.36, 0.62), (0.9, 0.26, 0.52)):
        pen.box(x - 0.08, top, x + 0.08, elbow + 0.1, colour)
        pen.ellipse(x, top, 0.08, 0.06, colour)
        pen.box(min(x, 0.5), elbow, max(x, 0.5), elbow + 0.11, colour)
    return pen.finish(scale)


@cache
def _fir(time: str, scale: int) -> Image.Image:
    pen, colour = Pen(*FIR), tinted((134, 168, 184), time)
    for top, half in ((0.5, 0.5), (0.26, 0.42), (0.0, 0.32)):
        pen.polygon([(0.5, top), (0.5 + half, top + 0.46), (0.5 - half, top + 0.46)], colour)
    pen.polygon([(0.5, 0), (0.62, 0.2), (0.38, 0.2)], tinted((246, 250, 255), time))
    return pen.finish(scale)


@cache
def _shadow(width: int, water: bool, time: str, scale: int) -> Image.Image:
    pen = Pen(width + 8, SHADE)
    pen.ellipse(0.5, 0.5, 0.46, 0.42, (255, 255, 255) if water else lit((40, 36, 60), time))
    shadow = pen.finish(scale)
    shadow.putalpha(shadow.getchannel("A").point(lambda a: round(a * (0.35 if water else 0.22))))
    return shadow
