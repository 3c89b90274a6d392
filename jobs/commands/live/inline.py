"""Small pictures in a terminal that can show them: kitty's graphics protocol, iTerm2's inline images."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pixelkiln.jobs.commands.live.frame import PICTURE, Spot
from pixelkiln.jobs.errors import SpecError

Protocol = Literal["kitty", "iterm"]

CHUNK = 4096  # characters of base64 that kitty takes at a time
SIDE = 240  # pixels, the longer one: a picture is sent with each step, over ssh too


def protocol(environment: Mapping[str, str]) -> Protocol | None:
    """What the terminal that `environment` names takes; None where it is not known to take any.

    iTerm2 and WezTerm take iTerm2's, kitty and Ghostty kitty's. Inside tmux and screen neither arrives.
    Nothing is asked of the terminal: one that knows no answer would leave us waiting.
    """
    term = environment.get("TERM", "")
    if term.startswith(("tmux", "screen")) or "TMUX" in environment:
        return None
    if term in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    named = (environment.get("TERM_PROGRAM", ""), environment.get("LC_TERMINAL", ""))  # ssh passes LC_ on
    return "iterm" if {"iTerm.app", "iTerm2", "WezTerm"}.intersection(named) else None


def drawn(how: Protocol, spots: Sequence[Spot], pictures: Mapping[str, bytes]) -> str:
    """What draws pictures (PNG, by job) at their places, and leaves the cursor where it was."""
    parts = ["\0337"]
    if how == "kitty":
        parts.append("\033_Ga=d,d=A,q=2\033\\")  # those drawn before
    for spot in spots:
        body = pictures.get(spot.job)
        if body is None:
            continue
        parts.append(f"\033[{spot.line + 1};{spot.cell + 1}H")
        text = base64.b64encode(body).decode()
        if how == "iterm":
            size = f"size={len(body)};width={PICTURE[0]};height={PICTURE[1]};preserveAspectRatio=1"
            parts.append(f"\033]1337;File=inline=1;{size}:{text}\a")
        else:
            across, down = _cells(body)  # C=1: the cursor stays; q=2: no answer, which would be read as keys
            parts += in_parts(text, f"f=100,a=T,C=1,q=2,c={across},r={down},")
    return "".join([*parts, "\0338"])


def in_parts(text: str, control: str) -> Iterator[str]:
    """A picture for kitty in parts: the first has what is to be done, all but the last say m=1."""
    for at in range(0, len(text), CHUNK):
        yield f"\033_G{control}m={int(at + CHUNK < len(text))};{text[at : at + CHUNK]}\033\\"
        control = ""


def small_png(webp: bytes) -> bytes | None:
    """A preview as terminals take it; None where it is no picture."""
    from pixelkiln.jobs.storage.pictures import read_picture  # Pillow, which few commands need

    try:
        image = read_picture(webp, "preview")
    except SpecError:
        return None
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _cells(png: bytes) -> tuple[int, int]:
    """Cells and lines that keep a picture's proportions, of cells twice as high as wide."""
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    scale = min(PICTURE[0] / width, 2 * PICTURE[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale / 2))
