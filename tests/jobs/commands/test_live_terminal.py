"""`kiln watch` on a terminal of its own: it draws, hears keys, waits outages out, and leaves it as it was."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.worker.render.preview import small_webp
from tests.waiting import until

WATCH = "import sys; from pixelkiln.worker.commands.app import main; sys.argv[1:] = ['watch']; main()"
OPENED, CLOSED = ("\033[?1049h", "\033[?25l", "\033[?7l"), ("\033[2J", "\033[?7h", "\033[?1049l", "\033[?25h")


class Screen:
    """The command on a pseudo-terminal: what it wrote, and the cells that this left."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.terminal, self.line = os.openpty()
        self.before = termios.tcgetattr(self.line)
        self.resize(80, 24)
        self.raw = ""
        self._bytes = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", WATCH],
            stdin=self.line,
            stdout=self.line,
            stderr=self.line,
            env=variables | {"TERM": "xterm-256color"},
            cwd=folder,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def read(self) -> str:
        """All that was written so far."""
        while select.select([self.terminal], [], [], 0)[0]:
            self._bytes += os.read(self.terminal, 65536)
        self.raw = self._bytes.decode("utf-8", "replace")
        return self.raw

    def lines(self) -> list[str]:
        """The lines as they stand now: each was placed by its own move."""
        cells: dict[int, str] = {}
        drawn = self.read().rpartition(OPENED[0])[2]
        for row, text in re.findall(r"\033\[(\d+);1H((?:(?!\033\[\d+;\d+H).)*)", drawn, re.DOTALL):
            cells[int(row)] = re.sub(r"\033\[[0-9;?]*[a-zA-Z]", "", text)
        return [cells[row] for row in sorted(cells)]

    def shows(self, words: str) -> None:
        until(lambda: words in "\n".join(self.lines()), f"{words!r} is shown", 60)

    def ends(self) -> int:
        def ended() -> bool:
            self.read()  # or it waits for room to write
            return self.process.poll() is not None

        until(ended, "it ends", 30)
        self.read()
        return int(self.process.returncode)


@pytest.fixture
def screen(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Screen]]:
    """Start the command on a terminal."""
    opened: list[Screen] = []

    def start(**variables: str) -> Screen:
        opened.append(Screen(tmp_path, environment | variables))
        return opened[-1]

    yield start
    for one in opened:
        one.process.kill()
        one.process.wait()
        os.close(one.terminal)
        os.close(one.line)


@pytest.mark.parametrize(
    ("how", "code"), [(b"q", 0), (b"\x03", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_however_it_ends_the_terminal_is_as_before(
    screen: Callable[..., Screen], kiln: Kiln, how: bytes | signal.Signals, code: int
) -> None:
    kiln.submit(prompt="x", model="demo")
    one = screen()
    one.shows("q ends the watching")
    one.press(b"x\x1az")  # other keys do nothing, Ctrl-Z included, and are not shown
    assert all(words in one.raw for words in OPENED)
    if isinstance(how, bytes):
        one.press(how)
    else:
        one.process.send_signal(how)
    assert one.ends() == code
    assert all(words in one.raw.rpartition("q ends the watching")[2] for words in CLOSED)
    assert "Traceback" not in one.raw
    assert termios.tcgetattr(one.line) == one.before


def test_it_fits_the_terminal_and_follows_its_size(screen: Callable[..., Screen], kiln: Kiln) -> None:
    for n in range(60):
        kiln.submit(prompt="x", model="demo", client=f"c{n:02}")
    one = screen(LINES="24", COLUMNS="80")  # as some shells export them, of how it was then
    one.shows("more lanes, ")
    assert [len(line) for line in one.lines()] == [80] * 24
    assert "\n" not in one.raw[one.raw.index(OPENED[0]) :]  # nothing scrolls
    one.resize(200, 70)
    one.shows("demo:bf16:normal:c59")
    until(lambda: [len(line) for line in one.lines()] == [200] * 70, "all is drawn anew")


def test_only_lines_that_changed_are_drawn(screen: Callable[..., Screen], kiln: Kiln) -> None:
    kiln.submit(prompt="x", model="demo")
    one = screen()
    one.shows("q ends the watching")
    whole = len(one.read())
    kiln.submit(prompt="x", model="demo", client="another")
    one.shows("normal:another")
    assert one.raw.count("q ends the watching") == 1
    assert "no workers" not in one.raw[whole:]


def test_an_outage_is_told_and_waited_out(
    screen: Callable[..., Screen], kiln: Kiln, rewire: Callable[..., tuple[Settings, Any]]
) -> None:
    changed, proxy = rewire("redis")
    assert changed.redis_url is not None
    one = screen(KILN_REDIS_URL=changed.redis_url.get_secret_value())
    one.shows("no workers; start one")
    proxy.cut()
    one.shows("is unreachable")
    one.shows("this is from ")
    kiln.submit(prompt="x", model="demo", client="meanwhile")
    proxy.mend()
    one.shows("normal:meanwhile")
    assert "this is from" not in "\n".join(one.lines())
    proxy.cut()
    one.shows("this is from ")
    one.press(b"q")
    assert one.ends() == 0


def test_a_farm_that_does_not_answer_is_an_error_in_a_line(
    screen: Callable[..., Screen], rewire: Callable[..., tuple[Settings, Any]]
) -> None:
    changed, proxy = rewire("redis")
    proxy.cut()
    assert changed.redis_url is not None
    one = screen(KILN_REDIS_URL=changed.redis_url.get_secret_value())
    assert one.ends() == 3
    assert OPENED[0] not in one.raw
    assert "unreachable" in one.raw


def test_pictures_are_drawn_where_the_terminal_can(screen: Callable[..., Screen], kiln: Kiln) -> None:
    import numpy as np

    kiln.submit(prompt="x", model="demo", id="j1")
    kiln.redis.sadd("rq:workers", "rq:worker:mini")
    kiln.redis.hset("rq:worker:mini", mapping={"kiln_state": "rendering j1", "queues": "demo:bf16"})
    kiln.redis.sadd("rq:worker:mini:executions", "j1:e1")
    progress = '{"phase": "rendering", "step": 3, "steps": 9, "each": 1.25}'
    kiln.redis.hset("rq:job:j1", mapping={"status": "started", "worker_name": "mini", "meta": progress})
    kiln.redis.set("kiln:preview:default:j1", small_webp(np.zeros((64, 64, 3), np.uint8)))
    one = screen(TERM_PROGRAM="WezTerm")
    one.shows("3/9")
    assert "1337" not in one.raw  # there is no room for any
    one.resize(100, 40)
    until(lambda: "\033]1337;File=inline=1" in one.read(), "it is drawn")
    one.press(b"q")
    assert one.ends() == 0
