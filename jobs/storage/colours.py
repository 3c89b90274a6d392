"""What the pixels of a picture look like on a screen: sRGB, 8 bits, on white."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable

from PIL import Image, ImageCms

from pixelkiln.jobs.storage.parts import ForeignError, Parts
from pixelkiln.jobs.storage.profiles import SPACES

DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's modes of greys beyond 8 bits
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
GREY = ("1", "L", "LA", *DEEP)
_NEAR = 1  # levels by which a profile may differ from sRGB and is left out

Convert = Callable[[Image.Image], Image.Image]


def converter(found: Parts, image: Image.Image) -> Convert:
    """What makes strips of `image`, which is loaded, into RGB. Raises ForeignError."""
    transform = _transform(found.profile, image.mode)
    eight = _eight(found, image)
    key = image.info.get("transparency") if image.mode in DEEP else None

    def convert(strip: Image.Image) -> Image.Image:
        alpha = _keyed(strip, key) if isinstance(key, int) else None
        strip = eight(strip)
        if alpha is None and (strip.mode in ALPHA or "transparency" in strip.info):
            rgba = strip.convert("RGBA")
            alpha = rgba.getchannel("A")
            strip = rgba.convert("L" if strip.mode in GREY else "RGB")
        strip = strip.convert("RGB") if transform is None else transform(strip)
        if alpha is None:
            return strip
        strip.putalpha(alpha)
        return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB")

    return convert


def is_srgb(found: Parts, image: Image.Image) -> bool:
    """Whether RGB is what the pixels are already."""
    return (
        image.mode == "RGB" and "transparency" not in image.info and _transform(found.profile, "RGB") is None
    )


def _transform(profile: bytes, mode: str) -> Convert | None:
    """From a profile's colours to sRGB; None where it is sRGB's, or of no use for such pixels."""
    if mode == "LAB":
        space, source = "LAB", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    else:
        space = SPACES.get(profile[16:20], "")
        wanted = {"CMYK": ("CMYK",)}.get(mode, ("L", "RGB") if mode in GREY else ("RGB",))
        if space not in wanted:
            return None
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        except (OSError, TypeError, ValueError, ImageCms.PyCMSError):
            return None
    try:
        made = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), space, "RGB")
    except ImageCms.PyCMSError:
        return None
    if space == "RGB" and _unchanged(made):
        return None

    def transform(strip: Image.Image) -> Image.Image:
        if strip.mode != space:
            strip = strip.convert(space)
        changed = made.apply(strip)
        changed.info.clear()
        return changed

    return transform


def _unchanged(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it leaves colours as they are, by a few hundred of them."""
    levels = (0, 36, 73, 109, 146, 182, 219, 255)
    wanted = bytes(itertools.chain.from_iterable(itertools.product(levels, repeat=3)))
    found = transform.apply(Image.frombytes("RGB", (len(wanted) // 3, 1), wanted)).tobytes()
    return all(abs(one - other) <= _NEAR for one, other in zip(wanted, found, strict=True))


def _eight(found: Parts, image: Image.Image) -> Convert:
    """From deep greys to L: 16 bits by their range, floats from 0 to 1, others from least to most."""
    if image.mode not in DEEP:
        return lambda strip: strip
    black, white = (float(value) for value in found.tones)
    if image.mode == "F" or (image.mode == "I" and found.format != "PNG"):
        extrema = image.getextrema()
        low, high = (float(value) for value in extrema)  # type: ignore[arg-type]
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ForeignError("holds values that are no numbers; save it with 8 or 16 bits")
        if image.mode == "F" and 0 <= low <= high <= 1:
            low, high = 0.0, 1.0
        black, white = (low, high) if black < white else (high, low)
    scale = 255 / ((white - black) or 1)
    return lambda strip: (
        strip.convert("F").point(lambda value: value * scale + (0.5 - black * scale)).convert("L")
    )


def _keyed(strip: Image.Image, key: int) -> Image.Image:
    """Alpha of 16-bit greys, of which one is clear."""
    table = [255] * 65_536
    table[key % 65_536] = 0
    return strip.convert("I").point(table, "L")
