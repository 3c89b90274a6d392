"""Reference pictures as the model takes them: each keeps its own size, cut to whole tokens, none is enlarged.

Everything here is Pillow and integers, as diffusers does it: no arrays, no model.
"""

from __future__ import annotations

from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.references import Own

RULE = Own()  # the catalogue's


def prepared(picture: Image.Image) -> Image.Image:
    """An RGB picture of RULE's prepared size, cut out of the middle. Raises SpecError."""
    fault = RULE.fault(picture.size, picture.size, 1, False, False)
    if fault:
        raise SpecError("references", fault)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    size, (width, height) = RULE.scaled(picture.size), RULE.prepared(picture.size)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return picture.crop((left, top, left + width, top + height))
