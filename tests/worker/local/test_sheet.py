"""A contact sheet, and the sequences that show it in a terminal."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs.commands.live.inline import CHUNK
from pixelkiln.worker.local.demo import sheet
from pixelkiln.worker.local.sheet import GAP, contact_sheet, inline

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8))


def test_pictures_stand_in_rows(tmp_path: Path) -> None:
    sizes = [(64, 32), (32, 48), (64, 48)]
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, size, colour in zip(paths, sizes, ("red", "lime", "blue"), strict=True):
        Image.new("RGB", size, colour).save(path)
    sheet = contact_sheet(paths, 2)
    assert sheet.size == (2 * 64 + 3 * GAP, 2 * 48 + 3 * GAP)
    assert sheet.getpixel((GAP, GAP)) == (255, 0, 0)
    assert sheet.getpixel((64 + 2 * GAP, GAP)) == (0, 255, 0)
    assert sheet.getpixel((GAP, 48 + 2 * GAP)) == (0, 0, 255)


def test_the_demo_s_sheet_leaves_out_what_failed(tmp_path: Path) -> None:
    NOISE.save(tmp_path / "a.png")
    done = {"size": "80x80", "file": str(tmp_path / "a.png")}
    failed = {"size": "", "file": "it said nothing"}
    assert sheet([failed], tmp_path / "none.png") is None
    assert not (tmp_path / "none.png").exists()
    picture = sheet([done, failed, done], tmp_path / "all.png")
    assert picture is not None
    assert picture.size == (3 * 80 + 4 * GAP, 80 + 2 * GAP)
    assert Image.open(tmp_path / "all.png").tobytes() == picture.tobytes()


@pytest.mark.parametrize("program", ["iTerm.app", "WezTerm"])
def test_iterm_gets_the_file(program: str) -> None:
    shown = inline(NOISE, {"TERM": "xterm-256color", "TERM_PROGRAM": program})
    assert shown is not None
    found = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+):([A-Za-z0-9+/=]+)\x07\n", shown)
    assert found is not None
    data = base64.b64decode(found[2])
    assert len(data) == int(found[1])
    assert Image.open(io.BytesIO(data)).tobytes() == NOISE.tobytes()


def test_kitty_gets_it_in_parts() -> None:
    shown = inline(NOISE, {"TERM": "xterm-kitty"})
    assert shown is not None
    parts = re.findall(r"\x1b_G(?:(f=100,a=T),)?m=([01]);([A-Za-z0-9+/=]*)\x1b\\", shown)
    assert len(parts) > 1
    assert [bool(first) for first, _, _ in parts] == [True] + [False] * (len(parts) - 1)
    assert [more for _, more, _ in parts] == ["1"] * (len(parts) - 1) + ["0"]
    assert all(len(text) <= CHUNK and len(text) % 4 == 0 for _, _, text in parts)
    data = base64.b64decode("".join(text for _, _, text in parts))
    assert Image.open(io.BytesIO(data)).tobytes() == NOISE.tobytes()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"},
        {"TERM": "tmux-256color", "TERM_PROGRAM": "WezTerm"},
        {"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-1/default,1,0"},
    ],
)
def test_other_terminals_get_nothing(environment: dict[str, str]) -> None:
    assert inline(NOISE, environment) is None
