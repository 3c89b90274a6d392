"""What one picture shows and how it looks, told by processes that need no MLX."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.render.checks import check
from postcards.reader import Reading, read

PATCH = 32  # pixels
Pixels = NDArray[np.uint8]  # (height, width, 3)


@dataclass(frozen=True, slots=True)
class Look:
    """One picture's measures."""

    reading: Reading
    sharpness: float
    seams: float
    psnr: float | None  # dB, to the picture that it was held against; None for that itself


def look(work: tuple[Pixels, int, Pixels | None]) -> Look:
    """Of a picture, drawn at a scale, and what to hold it against."""
    picture, scale, other = work
    differs = other is not None and not np.array_equal(picture, other)
    return Look(
        reading=read(picture, scale),
        sharpness=sharpness(picture),
        seams=check(picture, PATCH).seam_score,
        psnr=psnr(picture, other) if differs and other is not None else None,
    )


def sharpness(picture: Pixels) -> float:
    """The mean absolute Laplacian of the grey picture, in levels of 255: what edges and grain there are."""
    grey = picture.astype(np.float32).mean(-1)
    beside = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.abs(4 * grey[1:-1, 1:-1] - beside).mean())


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio of two pictures, dB."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return 10 * log10(255**2 / error)


def kept(full: Reading, other: Reading, near: float = 16) -> tuple[int, int]:
    """How many of `full`'s things `other` has too, kind, colour, size and place alike; and of how many.

    `near` is in pixels at scale 1, on each axis. What only `other` has counts as not kept.
    """
    left = list(other.things)
    found = 0
    for thing in full.things:
        for rival in left:
            alike = (thing.kind, thing.colour, thing.size) == (rival.kind, rival.colour, rival.size)
            if alike and abs(thing.x - rival.x) <= near and abs(thing.y - rival.y) <= near:
                left.remove(rival)
                found += 1
                break
    return found, max(len(full.things), len(other.things))
