"""Several pictures in one, and one picture in a terminal that can show it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

GAP = 8  # pixels between pictures and round them
PAPER = (252, 250, 246)
CHUNK = 4096  # characters of base64 that kitty takes at a time


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
    """What shows a picture in the terminal that `environment` names; None where it is not known to.

    iTerm2 and WezTerm take their own OSC 1337, kitty and Ghostty kitty's graphics protocol. Inside tmux and
    screen neither arrives.
    """
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if term.startswith(("tmux", "screen")) or "TMUX" in environment:
        return None
    if program in ("iTerm.app", "WezTerm"):
        data = _png(picture)
        return f"\033]1337;File=inline=1;size={len(data)}:{base64.b64encode(data).decode()}\a\n"
    if term in ("xterm-kitty", "xterm-ghostty"):
        return "".join(_kitty(base64.b64encode(_png(picture)).decode())) + "\n"
    return None


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _kitty(text: str) -> Iterator[str]:
    """Transmit a PNG (f=100) and display it (a=T), in parts; all but the last say m=1."""
    for at in range(0, len(text), CHUNK):
        control = "f=100,a=T," if at == 0 else ""
        yield f"\033_G{control}m={int(at + CHUNK < len(text))};{text[at : at + CHUNK]}\033\\"
