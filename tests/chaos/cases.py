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

from pixelkiln.worker.local.seaweed import Seaweed
from tests.chaos.account import account, journals, leftovers
from tests.chaos.crew import Worker, forks, until
from tests.chaos.farm import Farm

SPEC = {"model": "demo", "width": 64, "height": 64, "seed": 1}


class Case:
    """A farm for one case, and what all of them need."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        store = stack.enter_context(Seaweed(folder / "s3"))
        self.farm = stack.enter_context(Farm(folder / "farm", store))
        self.kiln = self.farm.kiln()
        self._context = forks()
        self._stack = stack
        self.workers: list[Worker] = []
        self.jobs: list[str] = []

    def worker(self, **orders: Any) -> Worker:
        """A worker that is ready."""
        orders_of_it = self.farm.orders(f"w{len(self.workers)}", **orders)
        worker = Worker(orders_of_it, self._context)
        self.workers.append(worker)
        self._stack.callback(worker.end)
        worker.start()
        until(worker.ready, 30, "a worker being ready")
        return worker

    def submit(self, count: int = 1) -> list[str]:
        """Some short jobs."""
        names = [f"job-{len(self.jobs) + i}" for i in range(count)]
        self.kiln.submit_many([SPEC | {"prompt": name} for name in names], ids=names)
        self.jobs += names
        return names

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the workers wrote down of one kind, oldest first, each with its slot."""
        found = [e | {"slot": w.slot} for w in self.workers for e in w.journal() if e["event"] == name]
        return sorted(found, key=lambda event: event["t"])

    def ended(self) -> bool:
        """Whether every job has."""
        return all(status is not None and status.ended for status in self.kiln.statuses(self.jobs).values())

    def settle(self) -> list[str]:
        """Wait for the end, dismiss the workers, and account for the jobs."""
        until(self.ended, 120, "the jobs' end")
        here = [worker for worker in self.workers if worker.alive()]
        for worker in here:
            worker.signal(signal.SIGTERM)
        for worker in here:
            worker.wait(40)
        found = account(self.kiln, dict.fromkeys(self.jobs, "finished"), dict.fromkeys(self.jobs, "default"))
        return found + leftovers(self.kiln.redis, here) + journals(self.workers)


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
    queued = sum(s is not None and s.state == "queued" for s in case.kiln.statuses(case.jobs).values())
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
    case.__name__: case for case in (taken_over, restarted, spooled, storage_away, storage_gone)
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
