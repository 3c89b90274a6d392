"""The live farm on a terminal: its other screen while it lasts, redrawn where a line has changed."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import tzinfo
from types import FrameType

from rich.console import Console
from rich.control import Control
from rich.text import Text

from pixelkiln.jobs.commands.live import inline
from pixelkiln.jobs.commands.live.frame import Frame, frame
from pixelkiln.jobs.commands.live.reader import Reader

TICK = 0.25  # seconds between two looks for what is to be drawn
LEAVE = (b"q", b"Q", b"\x03", b"\x04")  # Ctrl-C and Ctrl-D
CLEAR = "\033[H\033[2J"
NO_WRAP, WRAP = "\033[?7l", "\033[?7h"  # what is wider than it was counted for is cut, and scrolls nothing


class LeftError(BaseException):
    """A signal ends the watching; like KeyboardInterrupt no error."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def live(
    reader: Reader, console: Console, client: str, zone: tzinfo | None, how: inline.Protocol | None
) -> None:
    """Show what `reader` saw until q, Ctrl-C or a signal; the terminal is as before then."""
    painter = _Painter(console, how)
    drawn, drawn_at = None, None
    with _signals(), _keys() as keys, _other_screen(console):
        while True:
            if reader.broken is not None:
                raise reader.broken
            console.size = os.get_terminal_size(console.file.fileno())  # not as LINES said when it began
            seen, size = reader.seen, console.size
            if seen is not drawn or size != drawn_at:
                shown = frame(
                    seen.snapshot, size.width, size.height, client=client, zone=zone, trouble=seen.trouble
                )
                painter.paint(shown, {job: png for job, (_, png) in reader.drawn.items() if png})
                drawn, drawn_at = seen, size
            if _asked_to_leave(keys):
                return


class _Painter:
    """Draws frames, of each what differs from the one before."""

    def __init__(self, console: Console, how: inline.Protocol | None) -> None:
        self._console = console
        self._how = how
        self._lines: tuple[Text, ...] = ()
        self._pictures: object = None
        self._size = (0, 0)

    def paint(self, shown: Frame, pictures: dict[str, bytes]) -> None:
        """Draw it."""
        size = tuple(self._console.size)
        whole = size != self._size or len(shown.lines) != len(self._lines)
        changed = [number for number, line in enumerate(shown.lines) if whole or line != self._lines[number]]
        drawn = (shown.spots, [pictures.get(spot.job) for spot in shown.spots])
        again = self._how is not None and (
            drawn != self._pictures or whole or (self._how == "iterm" and self._covered(shown, changed))
        )
        if not changed and not again:
            return
        with self._console:
            for number in changed:
                self._console.control(Control.move_to(0, number))
                self._console.print(shown.lines[number], end="", no_wrap=True, overflow="ignore", crop=False)
        if again and self._how is not None:
            _write(self._console, inline.drawn(self._how, shown.spots, pictures))
        self._lines, self._pictures, self._size = shown.lines, drawn, (size[0], size[1])

    def _covered(self, shown: Frame, changed: list[int]) -> bool:
        """Whether a line that was drawn anew lies on a picture: there text covers it."""
        first = min((spot.line for spot in shown.spots), default=len(shown.lines))
        return any(first <= number < len(shown.lines) - 1 for number in changed)


@contextmanager
def _other_screen(console: Console) -> Iterator[None]:
    screen = console.screen()
    screen.__enter__()
    try:
        _write(console, NO_WRAP)
        yield
    finally:
        with suppress(OSError):  # the terminal may be gone
            _write(
                console, CLEAR + WRAP
            )  # tmux, resized meanwhile, would keep some of it on the first screen
            screen.__exit__(None, None, None)


def _write(console: Console, codes: str) -> None:
    """Codes that rich has no names for."""
    console.file.write(codes)
    console.file.flush()


@contextmanager
def _keys() -> Iterator[int | None]:
    """The terminal's keys, heard at once and not shown; none where the input is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    try:
        tty.setcbreak(keys)
        mode = termios.tcgetattr(keys)
        mode[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave a shell on the other screen
        # As a signal Ctrl-C takes away what was typed before it, for which a read may wait then, for ever.
        mode[6][termios.VINTR] = b"\0"
        termios.tcsetattr(keys, termios.TCSADRAIN, mode)
        yield keys
    finally:
        with suppress(OSError, termios.error):
            termios.tcsetattr(keys, termios.TCSAFLUSH, before)


def _asked_to_leave(keys: int | None) -> bool:
    """Wait a moment, or for a key: whether it is one that ends."""
    ready, _, _ = select.select([] if keys is None else [keys], [], [], TICK)
    if not ready or keys is None:
        return False
    try:
        pressed = os.read(keys, 64)
    except OSError:  # the terminal is gone
        return True
    return not pressed or any(key in pressed for key in LEAVE)


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that the terminal is put right."""

    def leave(number: int, stack: FrameType | None) -> None:
        raise LeftError(number)

    chosen = (signal.SIGTERM, signal.SIGHUP)
    before = {one: signal.signal(one, leave) for one in chosen if signal.getsignal(one) == signal.SIG_DFL}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
