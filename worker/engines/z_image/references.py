"""The picture that a render begins from, brought to the render's size."""

from __future__ import annotations

from PIL import Image


def fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`picture` scaled to cover `size`, width and height in pixels, and cut centrally; never stretched."""
    if picture.size == size:
        return picture
    scale = max(side / own for side, own in zip(size, picture.size, strict=True))
    width, height = (max(side, round(own * scale)) for side, own in zip(size, picture.size, strict=True))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    larger = picture.resize((width, height), Image.Resampling.LANCZOS)
    return larger.crop((left, top, left + size[0], top + size[1]))
