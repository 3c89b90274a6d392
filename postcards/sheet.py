"""Contact sheets: pictures in rows, each with a line or two of text below it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GAP, LINE, LETTER = 8, 13, 6  # pixels
PAPER, TEXT = (252, 250, 246), (70, 64, 74)


def contact_sheet(cells: Sequence[tuple[NDArray[np.uint8], str]], columns: int) -> Image.Image:
    """Pictures with their texts, `columns` to a row; every cell is as large as the largest picture."""
    width = max(picture.shape[1] for picture, _ in cells)
    height = max(picture.shape[0] for picture, _ in cells)
    texts = [textwrap.wrap(text, width // LETTER) for _, text in cells]
    lines = max(len(text) for text in texts)
    across, down = width + GAP, height + GAP + lines * LINE
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * across + GAP, rows * down + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for i, (picture, _) in enumerate(cells):
        x, y = GAP + i % columns * across, GAP + i // columns * down
        sheet.paste(Image.fromarray(picture), (x, y))
        for number, line in enumerate(texts[i]):
            draw.text((x, y + picture.shape[0] + 1 + number * LINE), line, TEXT, font)
    return sheet
