"""Noticing that the render thread is stuck: in a step, in a load, in a driver that will not answer."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger("kiln.watchdog")

FACTOR = 20.0  # times this worker's slowest measured step of that size until one is called stuck
LEAST = 60.0  # seconds that are always allowed
EXIT_CODE = 75  # EX_TEMPFAIL: whoever started the worker may start it again


@dataclass(frozen=True, slots=True)
class _Task:
    what: str
    due: float  # monotonic


class Watchdog:
    """Set by the render thread, asked by the heartbeat's. `unknown`: seconds where none are measured yet."""

    def __init__(self, unknown: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._unknown = unknown
        self._clock = clock
        self._slowest: dict[object, float] = {}
        self._lock = threading.Lock()
        self._task: _Task | None = None

    def begin(self, what: str, size: object = None) -> None:
        """The render thread starts something, of a size it may have done before."""
        slowest = self._slowest.get(size)
        allowed = self._unknown if slowest is None else max(LEAST, FACTOR * slowest)
        with self._lock:
            self._task = _Task(what, self._clock() + allowed)

    def end(self, size: object = None, seconds: float | None = None) -> None:
        """It is done; `seconds` it took are remembered for that size."""
        with self._lock:
            self._task = None
        if seconds is not None:
            self._slowest[size] = max(seconds, self._slowest.get(size, 0.0))

    def overdue(self) -> str | None:
        """What is stuck, if something is."""
        with self._lock:
            task = self._task
        return task.what if task is not None and self._clock() > task.due else None


def exit_if(watchdog: Watchdog) -> None:
    """Write down where every thread is and leave at once, if the render thread is stuck.

    Nothing is tidied up: the job's mark and lease tell who was at it, and locks end with the process.
    """
    what = watchdog.overdue()
    if what is None:
        return
    log.critical("stuck: %s; this worker exits so that it can be started again", what)
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(EXIT_CODE)
