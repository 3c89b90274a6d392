"""Several pictures in one, and one picture in a terminal that can show it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from pixelkiln.jobs.commands.live.inline import in_parts, protocol

GAP = 8  # pixels between pictures and round them
PAPER = (252, 250, 246)


def contact_sheet(pictures: Sequence[Path], columns: int) -> Image.Image:
    """PNG files in rows of `columns`; every cell is as large as the largest picture."""
    images = [Image.open(path) for path in pictures]
    across = max(image.width for image in images) + GAP
    down = max(image.height for image in images) + GAP
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * across + GAP, rows * down + GAP), PAPER)
    for i, image in enumerate(images):
        sheet.paste(image, (GAP + i % columns * across, GAP + i // columns * down))
    return sheet


def inline(picture: Image.Image, environment: Mapping[str, str]) -> str | None:
    """What shows a picture in the terminal that `environment` names; None where it is not known to."""
    how = protocol(environment)
    if how == "iterm":
        data = _png(picture)
        return f"\033]1337;File=inline=1;size={len(data)}:{base64.b64encode(data).decode()}\a\n"
    if how == "kitty":
        return "".join(in_parts(base64.b64encode(_png(picture)).decode(), "f=100,a=T,")) + "\n"
    return None


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
