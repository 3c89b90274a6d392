"""Reading pictures that strangers made: what a reference file may be, checked on both sides of the bucket."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from pixelkiln.jobs.errors import SpecError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 64 * 2**20  # of the file
MAX_DECODED = 64_000_000  # pixels


def read_picture(data: bytes, field: str = "references", room: int = MAX_DECODED) -> Image.Image:
    """Decode a picture to RGB, upright; transparency falls on white, an animation gives its first frame.

    Raises SpecError naming `field` where it is no picture, of another format, truncated or too large. The
    size is looked at before a pixel is decoded; a worker has `room` for so many beside its render.
    """
    if len(data) > MAX_BYTES:
        raise SpecError(field, f"the file is {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own bomb warning has a lower bound than ours
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                limit = min(MAX_DECODED, room)
                if width * height > limit:
                    why = " beside this render (KILN_MEMORY)" if limit < MAX_DECODED else ""
                    raise SpecError(
                        field, f"{width} x {height} is {width * height:,} pixels; the limit is {limit:,}{why}"
                    )
                image.load()
                return _on_white(ImageOps.exif_transpose(image))
        except UnidentifiedImageError:
            raise SpecError(field, f"is not a picture; {', '.join(FORMATS)} files are") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise SpecError(field, f"the picture cannot be read: {str(error)[:120]}") from None


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
