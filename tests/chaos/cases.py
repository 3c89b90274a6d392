"""Promises with numbers in them, measured one by one: `python -m tests.chaos.cases [NAME…]`."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.chaos import losses
from tests.chaos.case import Case
from tests.chaos.crew import Worker, forks, until


def taken_over(case: Case) -> str:
    """SIGKILL mid-render: another worker is rendering the job within 30 s, five times of five."""
    took = []
    for _ in range(5):
        case.worker(pace=0.05)
        job = case.submit()[0]
        step = until(lambda job=job: _of(case, "first step", job), 30, "a step")[0]
        heir = case.worker(pace=0.05)
        killed = time.monotonic()
        next(w for w in case.workers if w.slot == step["slot"]).end()
        until(lambda job=job: len(_of(case, "first step", job)) > 1, 40, "another worker's step")
        took.append(_of(case, "first step", job)[1]["t"] - killed)
        until(case.ended, 60, "the end")
        heir.signal(signal.SIGTERM)
        heir.wait(30)
    assert max(took) < 30, took
    return f"rendering again after {_list(took)} s"


def restarted(case: Case) -> str:
    """SIGKILL mid-render, restart on the same spool: rendering again within 3 s of being ready."""
    took = []
    worker = case.worker(pace=0.05)
    for _ in range(5):
        job = case.submit()[0]
        until(lambda job=job: _of(case, "first step", job), 30, "a step")
        worker.end()
        worker.start()
        until(lambda job=job: len(_of(case, "first step", job)) > 1, 30, "the step again")
        ready = case.events("ready")[-1]["t"]
        took.append(_of(case, "first step", job)[1]["t"] - ready)
        until(case.ended, 60, "the end")
    assert max(took) < 3, took
    return f"rendering again {_list(took)} s after being ready"


def spooled(case: Case) -> str:
    """What a killed worker had finished is delivered by its successor, not rendered again."""
    worker = case.worker()
    case.farm.to_s3.refuse()
    case.submit(5)
    until(lambda: len(case.events("spooled")) == 5, 60, "five spooled pictures")
    worker.end()
    case.farm.to_s3.restore()
    worker.start()
    until(case.ended, 60, "the end")
    renders = len(case.events("render"))
    assert renders == 5, renders
    return "5 pictures spooled, worker killed, restarted: all stored, 0 rendered again"


def storage_away(case: Case) -> str:
    """S3 away for 60 s while 20 short jobs run: rendering never pauses, all stored within 30 s after."""
    case.worker()
    case.submit(1)
    until(case.ended, 30, "the first job")
    case.farm.to_s3.refuse()
    away = time.monotonic()
    case.submit(20)
    until(lambda: len(case.events("last step")) == 21, 55, "all being rendered")
    rendered = time.monotonic() - away
    ends = [event["t"] for event in case.events("last step")][1:]
    starts = [event["t"] for event in case.events("first step")][1:]
    pause = max(b - a for a, b in zip(ends, starts[1:], strict=False))
    until(lambda: time.monotonic() - away > 60, 61, "the minute")
    case.farm.to_s3.restore()
    back = time.monotonic()
    until(case.ended, 60, "all stored")
    stored = time.monotonic() - back
    assert stored < 30, stored
    assert pause < 2, pause
    told = f"20 rendered in {rendered:.1f} s, longest pause {pause:.2f} s"
    return f"{told}; stored {stored:.1f} s after its return"


def storage_gone(case: Case) -> str:
    """S3 away for good: no jobs are taken beyond the watermark, the worker says why, nothing is lost."""
    orders = case.farm.orders("w0")
    orders.settings["spool_jobs"] = 5
    worker = Worker(orders, forks())
    case.workers.append(worker)
    case._stack.callback(worker.end)
    worker.start()
    until(worker.ready, 30, "a worker being ready")
    case.farm.to_s3.refuse()
    case.submit(20)
    until(lambda: "takes no jobs" in _state(case), 60, "the worker stopping")
    said, taken = _state(case), len(case.events("take"))
    until(lambda: len(case.events("spooled")) == taken, 30, "all spooled")
    queued = sum(s is not None and s.state == "queued" for s in case.kiln.statuses(list(case.jobs)).values())
    assert taken + queued == 20, (taken, queued)
    assert taken == 5, taken
    case.farm.to_s3.restore()
    return f"{taken} taken, {queued} wait; it says: {said}"


def _of(case: Case, event: str, job: str) -> list[dict[str, Any]]:
    return [one for one in case.events(event) if one["job"] == job]


def _state(case: Case) -> str:
    return " ".join(worker.state for worker in case.kiln.farm().workers)


def _list(numbers: list[float]) -> str:
    return ", ".join(f"{number:.1f}" for number in numbers)


CASES: dict[str, Callable[[Case], str]] = {
    case.__name__: case
    for case in (taken_over, restarted, spooled, storage_away, storage_gone, *losses.CASES)
}


def main(names: list[str]) -> int:
    """Try them, or those named; 0 where all hold."""
    bad = 0
    for name, case in CASES.items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            farm = Case(Path(folder), stack)
            try:
                said, found = case(farm), farm.settle()
            except (AssertionError, TimeoutError) as error:
                said, found = "", [repr(error)]
        bad += bool(found)
        print(f"{name}: {'BROKEN' if found else 'holds'}: {said}", *found, sep="\n    ", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
