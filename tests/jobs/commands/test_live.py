"""The frames of `kiln watch`: they fit whatever strangers wrote, and tell all; lines and JSON elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from rich.cells import cell_len
from rich.text import Text

from pixelkiln.jobs import Kiln, NotReadyError, Settings
from pixelkiln.jobs.batches.standing import BatchStatus
from pixelkiln.jobs.commands.live import inline
from pixelkiln.jobs.commands.live.command import follow
from pixelkiln.jobs.commands.live.frame import PICTURE, Frame, frame, pictures_across
from pixelkiln.jobs.queue.farm import Farm, LaneStatus, WorkerStatus
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.watching.snapshot import Place, Snapshot
from pixelkiln.jobs.watching.watcher import Watcher
from pixelkiln.worker.render.preview import small_webp
from tests.jobs.commands.running import Run

GIB = 2**30
JOB = "3f2b8c1e-1111-4222-8333-444455556666"
HOSTILE = (
    "[red]not red[/red] :fire: \x1b[31m\x9b31m\x07\n\r\t",
    "漢字" * 60,
    "👨‍👩‍👧 ❤️ 👍🏽 🇩🇪 " * 20,
    "قطة في الثلج \u202e\u2066 " * 20,
    "e\u0301" * 200 + "\u200b\ufeff\u00ad",
    "x" * 500,
    "",
)


def busy(text: str = "[red]a fox[/red]") -> Snapshot:
    """Two hundred workers, a hundred batches, a thousand lanes, twenty failures; names hold `text`."""
    gone = WorkerStatus("mini-gone", f"gone; was rendering {JOB}", ("demo:bf16",), "mini", age=25.0)
    tired = WorkerStatus(f"tired {text}", f"takes no jobs: {text}", (text,), text, age=1.0)
    older = WorkerStatus("older-version", "rendering old", seen="2026-11-26T12:00:00Z")
    at_work = [
        WorkerStatus(
            f"mac-{n:03}-{text}",
            f"rendering j{n}",
            ("demo:bf16",),
            text,
            age=2.0,
            memory=24 * GIB,
            used=9 * GIB,
        )
        for n in range(197)
    ]
    held = {
        one.name: (
            JobStatus(
                f"j{n}",
                "started",
                f"kiln:demo:bf16:normal:{text}",
                "rendering",
                n % 29,
                28,
                1.5,
                worker=one.name,
            ),
        )
        for n, one in enumerate(at_work)
    }
    batch = BatchStatus("", "c", "2026", text, False, 10_000, 7_000, 3, 2_900, 90, 6, 1, 2, 0, 3.2, 5_400.0)
    lanes = [LaneStatus(f"kiln:demo:bf16:normal:{text}{n}", n, n % 2, 9, n % 3, 5) for n in range(1_000)]
    failures = [
        JobStatus(
            f"{JOB[:-2]}{n:02}",
            "failed",
            lane=lanes[0].lane,
            error=text,
            ended_at=f"2026-11-26T12:00:{n:02}Z",
        )
        for n in range(20)
    ]
    return Snapshot(
        at=1_795_694_400.0,
        farm=Farm(tuple(lanes), (*at_work, older, tired, gone)),
        batches=tuple(replace(batch, name=f"night-{n}", paused=n == 3) for n in range(100)),
        unread=2,
        failures=tuple(failures),
        held=held,
        places={JOB: Place("night-1", 12, 10_000)},
        prompts={one.id: text for one in failures},
    )


def shown(snapshot: Snapshot, width: int, height: int, trouble: str = "") -> Frame:
    return frame(snapshot, width, height, client="default", zone=UTC, trouble=trouble)


def plain(found: Frame) -> list[str]:
    return [line.plain for line in found.lines]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("size", [(80, 24), (200, 50), (132, 43), (20, 5), (1, 1), (500, 300)])
def test_a_frame_fits_whatever_strangers_wrote(size: tuple[int, int], text: str) -> None:
    width, height = size
    for trouble in ("", f"Redis is away: {text}"):
        lines = plain(shown(busy(text), width, height, trouble))
        assert len(lines) == height
        assert {cell_len(line) for line in lines} == {width}
        assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066]", "".join(lines))


def test_markup_is_text() -> None:
    lines = shown(busy(), 200, 50).lines
    told = [line for line in lines if "[red]a fox[/red]" in line.plain]
    assert told
    assert all(isinstance(line, Text) for line in lines)  # which rich prints as it stands


@pytest.mark.parametrize(
    ("width", "height", "lanes"), [(80, 24, 997), (200, 50, 991)], ids=["80x24", "200x50"]
)
def test_what_matters_is_told_and_the_rest_in_a_line(width: int, height: int, lanes: int) -> None:
    text = "\n".join(plain(shown(busy(), width, height)))
    for words in (
        "199 workers, 1 gone",
        f"mini-gone       gone 25 s, held {JOB} (night",
        "takes no jobs: [red]a fox[/red]",
        "2 are being looked through",
        "2,996/10,000",
        "1 h 30 min",
        "90 failed",
        f"and {lanes} more lanes, ",
        "last failures of 999",
        "12:00:00",
        f"kiln retry {JOB[:-2]}00 --any-client",
        "more: kiln jobs --state failed --any-client",
    ):
        assert " ".join(words.split()) in " ".join(text.split()), words
    assert re.search(r"and \d+ more workers: \d+ rendering", text)
    assert re.search(r"and \d+ more batches, [\d,]+ pictures left, [\d,]+ failed", text)


def test_there_is_room_for_all_of_a_small_farm() -> None:
    whole = busy()
    few = replace(
        whole,
        farm=Farm(whole.farm.lanes[:4], (whole.farm.workers[0], *whole.farm.workers[-3:])),
        batches=whole.batches[2:4],
        unread=0,
        failures=whole.failures[:1],
    )
    text = " ".join("\n".join(plain(shown(few, 80, 24))).split())
    assert "more workers" not in text
    assert "more lanes" not in text
    for words in ("0/28 1.50 9.0/24 now demo:bf16 j0", "older-version busy", "paused", "last failures of 3"):
        assert words in text
    for words in ("0/28 1.50 9.0/24 now demo:bf16 j0", "older-version idle", "paused", "last failures of 3"):
        assert words in text or words == "older-version idle"


def test_trouble_is_told_in_whole_lines_with_when_the_rest_is_from() -> None:
    lines = plain(shown(busy(), 80, 24, "Redis at redis://10.0.0.7/0 is unreachable: it is off; start it"))
    told = " ".join(" ".join(lines[1:3]).split())
    assert "Redis at redis://10.0.0.7/0 is unreachable: it is off; start it; this is from 12:00:00" in told


def test_an_empty_farm_says_what_to_do() -> None:
    assert "no workers; start one with: kiln worker" in plain(shown(Snapshot(0.0, Farm()), 80, 24))[1]


def a_picture(width: int, height: int) -> bytes:
    import numpy as np

    return small_webp(np.zeros((height, width, 3), np.uint8))


def test_pictures_have_room_on_tall_terminals_and_overlap_nothing() -> None:
    some = replace(busy(), previews={f"j{n}": b"webp" for n in range(30)})
    assert shown(some, 80, 24).spots == ()
    found = shown(some, 200, 50)
    assert len(found.spots) == pictures_across(200, 50) == 9
    for spot in found.spots:
        assert spot.cell + PICTURE[0] <= 200
        under = plain(found)[spot.line : spot.line + PICTURE[1]]
        assert len(under) == PICTURE[1]
        assert not any(line.strip() for line in under)
    assert plain(found)[found.spots[0].line - 1].strip()  # what each shows
    assert spot.line + PICTURE[1] == 49


def test_pictures_are_drawn_as_the_terminal_takes_them_and_the_cursor_stays() -> None:
    png = inline.small_png(a_picture(256, 128))
    assert png is not None
    spots = shown(replace(busy(), previews={"j1": b"webp", "j2": b""}), 80, 50).spots
    kitty = inline.drawn("kitty", spots, {"j1": png})
    assert kitty.startswith("\0337\033_Ga=d,d=A,q=2\033\\")
    assert kitty.endswith("\0338")
    assert kitty.count("a=T") == 1
    assert "C=1,q=2,c=20,r=5," in kitty  # twice as wide as high, in cells twice as high as wide
    assert kitty.count("\n") == 0
    iterm = inline.drawn("iterm", spots, {"j1": png})
    assert f"\033[{spots[0].line + 1};1H\033]1337;File=inline=1;size={len(png)};width=20;height=10;" in iterm
    assert inline.small_png(b"RIFF junk") is None
    tall = inline.small_png(a_picture(64, 256))
    assert tall is not None
    assert "c=5,r=10," in inline.drawn("kitty", spots, {"j1": tall})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "tmux-256color", "LC_TERMINAL": "iTerm2"}, None),
        ({}, None),
    ],
)
def test_terminals_that_take_pictures_are_known_by_their_environment(
    environment: dict[str, str], expected: str | None
) -> None:
    assert inline.protocol(environment) == expected


def test_once_prints_one_frame(run: Run, kiln: Kiln, monkeypatch: pytest.MonkeyPatch) -> None:
    kiln.batch([{"prompt": "a [red] fox", "model": "demo"}] * 3, name="night")
    ran = run("watch", "--once")
    assert ran.code == 0
    assert "3 waiting" in ran.out
    assert "0/3" in ran.out
    assert "\033" not in ran.out
    told = run("watch", "--once", "--json").json
    assert set(told) == {"at", "lanes", "workers", "batches", "failures"}
    assert told["batches"][0]["queued"] == 3


def test_what_is_of_the_farm_is_refused_with_ids(run: Run, kiln: Kiln) -> None:
    job = kiln.submit(prompt="x", model="demo")
    for option in ("--once", "--no-previews"):
        ran = run("watch", job.id, option)
        assert (ran.code, ran.out) == (2, "")
        assert "kiln watch, without jobs or batches" in ran.err
    assert "not known to show any" in run("watch", "--once", "--previews").err


class _EnoughError(Exception):
    pass


@pytest.mark.parametrize("as_json", [False, True])
def test_in_a_pipe_a_line_is_written_for_every_change_and_outages_are_waited_out(
    kiln: Kiln,
    settings: Settings,
    rewire: Callable[..., tuple[Settings, Any]],
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed, proxy = rewire("redis")
    lines: list[str] = []
    acts: list[Callable[[], object]] = [
        lambda: None,  # nothing changes
        lambda: kiln.batch([{"prompt": "a fox", "model": "demo"}] * 2, name="night"),
        proxy.cut,
        lambda: None,
        lambda: (proxy.mend(), kiln.submit(prompt="a hare", model="demo")),
    ]

    def sleep(seconds: float) -> None:
        if not acts:
            raise _EnoughError
        acts.pop(0)()

    with Kiln(changed) as through, pytest.raises(_EnoughError):
        follow(Watcher(through), as_json, lambda line, flush: lines.append(line), sleep)
    assert len(lines) == 3
    if as_json:
        assert [len(json.loads(line)["batches"]) for line in lines] == [0, 1, 1]
    else:
        assert [line[20:].strip() for line in lines] == [
            "0 workers; 0 waiting; 0 rendering; 0 failed; 0 finished",
            "0 workers; 2 waiting; 0 rendering; 0 failed; 0 finished; night: 2 waiting",
            "0 workers; 3 waiting; 0 rendering; 0 failed; 0 finished; night: 2 waiting",
        ]
    assert capsys.readouterr().err.count("tried again until it answers") == 1


def test_a_farm_that_does_not_answer_at_first_is_an_error(
    settings: Settings, rewire: Callable[..., tuple[Settings, Any]]
) -> None:
    changed, proxy = rewire("redis")
    proxy.cut()
    with Kiln(changed) as through, pytest.raises(NotReadyError):
        follow(Watcher(through), False, print, lambda seconds: None)
