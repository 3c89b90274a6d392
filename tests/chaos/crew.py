"""Worker processes: started, struck, restarted. Forked from one that has imported everything."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.chaos.child import Orders, command, on_stdin, run
from tests.chaos.clocks import faked

PATIENCE = 30.0
# Whoever starts a process asks how all others ended (multiprocessing's _cleanup): of two threads that read
# one code, one gets it, and the other puts 255 in its place.
_ENDS = threading.RLock()


def forks() -> Any:
    """The way to start workers: from a fork server where that is safe, else each anew."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["__main__", "tests.chaos.child", "pixelkiln.worker.engines.hidream.engine"]
    )
    return context


class Worker:
    """One slot of the farm and the process that fills it now."""

    def __init__(self, orders: Orders, context: Any, clock: Path | None = None) -> None:
        self.orders = orders
        self.clock = clock  # a file of libfaketime's, where this slot's clock can be set
        self.frozen = False
        self._context = context
        self._process: Any = None

    @property
    def slot(self) -> str:
        """Its name."""
        return self.orders.slot

    @property
    def spool(self) -> Path:
        """Its spool folder."""
        return Path(self.orders.settings["spool_dir"])

    @property
    def pid(self) -> int:
        """Of its process."""
        return int(self._process.pid)

    def start(self, **changes: Any) -> None:
        """Fill the slot."""
        with _ENDS:
            orders = replace(self.orders, **changes)
            self.frozen = False
            if self.clock is not None:
                self._process = _Program(orders, self.clock)
            else:
                self._process = self._context.Process(target=run, args=(orders,), name=self.slot)
                self._process.start()

    def alive(self) -> bool:
        """Whether its process is there."""
        with _ENDS:
            return self._process is not None and self._process.is_alive()

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal; False where there was nobody to get it."""
        with _ENDS:
            if not self.alive():
                return False
            if number == signal.SIGSTOP:
                self.frozen = True
            if number == signal.SIGCONT:
                self.frozen = False
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
                return True
            return False

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Its exit code, negative for a signal; None where it is still there."""
        with suppress(TimeoutError):
            until(lambda: not self.alive(), seconds)
        with _ENDS:
            code: int | None = self._process.exitcode
        return code

    def end(self) -> None:
        """Kill it, if it is there."""
        if self.alive():
            self.signal(signal.SIGKILL)
            self.wait()

    def marks(self) -> list[str]:
        """The jobs it was at, by the marker on its disk, the one that was rendered last."""
        try:
            return [mark["job"] for mark in json.loads((self.spool / "inflight.json").read_text())]
        except (OSError, ValueError):
            return []

    def waiting(self) -> list[str]:
        """What lies in its spool besides its lock and its marker."""
        if not self.spool.is_dir():
            return []
        return sorted(p.name for p in self.spool.iterdir() if p.name not in {"lock", "inflight.json"})

    def journal(self) -> list[dict[str, Any]]:
        """What it wrote down, oldest first; a line cut off by a kill is left out."""
        events = []
        with suppress(FileNotFoundError):
            for line in Path(self.orders.journal).read_text().splitlines():
                with suppress(ValueError):
                    events.append(json.loads(line))
        return events

    def ready(self) -> bool:
        """Whether its process has taken over what its predecessor left, and works."""
        return any(event["event"] == "ready" and event["pid"] == self.pid for event in self.journal())

    def stopped(self) -> bool:
        """Whether it froze itself."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"


class _Program:
    """A worker as a program of its own, its clock read from a file. Has what Process has."""

    def __init__(self, orders: Orders, clock: Path) -> None:
        self._process = subprocess.Popen(
            command(orders), stdin=subprocess.PIPE, env=os.environ | faked(clock)
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(on_stdin(orders).encode() + b"\n")
            self._process.stdin.close()
        self.pid = self._process.pid

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()

    def is_alive(self) -> bool:
        return self._process.poll() is None


def until(condition: Callable[[], Any], seconds: float, what: str = "", every: float = 0.02) -> Any:
    """Wait for `condition`, bounded; its value. Raises TimeoutError naming what did not come."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or 'it'} did not come within {seconds:.0f} s")
        time.sleep(every)
    return value
