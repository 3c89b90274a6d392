"""What reference pictures add to a render: patches to look at and features in the prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, partial

import mlx.core as mx
import numpy as np
from PIL import Image

from pixelkiln.worker.engines.hidream.patches import grid, to_patches
from pixelkiln.worker.engines.hidream.pipeline import Conditions
from pixelkiln.worker.engines.hidream.references import vision_copies
from pixelkiln.worker.engines.hidream.vision import VisionTower


def conditions(tower: VisionTower, pictures: Sequence[Image.Image]) -> Conditions:
    """Condition on arranged references (sides in multiples of 32)."""
    copies = vision_copies(pictures)
    return Conditions(
        key=_digest(copies),
        patches=mx.concatenate([_patches(picture) for picture in pictures]),
        grids=tuple(grid(*picture.size) for picture in pictures),
        pads=tuple(tower.preprocessing.pads(*copy.size) for copy in copies),
        features=cache(partial(tower, copies)),
    )


def _patches(picture: Image.Image) -> mx.array:
    pixels = np.asarray(picture, np.float32) / np.float32(255)
    return to_patches(mx.array((pixels - np.float32(0.5)) / np.float32(0.5)).transpose(2, 0, 1))


def _digest(pictures: Sequence[Image.Image]) -> bytes:
    total = hashlib.sha256()
    for picture in pictures:
        total.update(f"{picture.width}×{picture.height};".encode())
        total.update(picture.tobytes())
    return total.digest()
