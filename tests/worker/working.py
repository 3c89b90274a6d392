"""Running a service in this process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from pixelkiln.jobs import Kiln
from pixelkiln.worker.service import Service
from tests.waiting import until

Work = Callable[[Callable[[], Any]], None]


def working(service: Service, condition: Callable[[], Any]) -> None:
    """Let a service work, on this thread as it must, until something is true; then ask it to leave."""
    failed: list[BaseException] = []
    left = threading.Event()

    def watch() -> None:
        try:
            until(lambda: left.is_set() or condition(), "the service has done its work", 120)
        except BaseException as error:
            failed.append(error)
        if not left.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # one that comes too late shall end nothing
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        service.run()
    finally:
        left.set()
        watcher.join()
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise failed[0]


def all_ended(kiln: Kiln, ids: list[str]) -> Callable[[], bool]:
    return lambda: all(one is not None and one.ended for one in kiln.statuses(ids).values())
