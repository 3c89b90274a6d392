"""A farm for one case: workers that are ready, jobs, and the account of them."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pixelkiln.worker.local.seaweed import Seaweed
from tests.chaos.account import Expected, account, halves, journals, leftovers
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
        self.jobs: dict[str, Expected] = {}  # and how each should end

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
        return self.submit_named([f"job-{len(self.jobs) + i}" for i in range(count)])

    def submit_named(self, names: list[str], **more: Any) -> list[str]:
        """Jobs of these ids, and specs with `more`."""
        self.kiln.submit_many([SPEC | {"prompt": name} | more for name in names], ids=names)
        self.jobs |= dict.fromkeys(names, "finished")
        return names

    def halves(self) -> list[str]:
        """What should not lie in the bucket: pictures without sidecars, and cancelled jobs' ones."""
        unwanted = [job for job, wanted in self.jobs.items() if "cancelled" in wanted]
        return halves(self.kiln, dict.fromkeys(self.jobs, "default"), unwanted)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the workers wrote down of one kind, oldest first, each with its slot."""
        found = [e | {"slot": w.slot} for w in self.workers for e in w.journal() if e["event"] == name]
        return sorted(found, key=lambda event: event["t"])

    def ended(self) -> bool:
        """Whether every job has."""
        statuses = self.kiln.statuses(list(self.jobs)).values()
        return all(status is not None and status.ended for status in statuses)

    def settle(self) -> list[str]:
        """Wait for the end, dismiss the workers, and account for the jobs."""
        until(self.ended, 120, "the jobs' end")
        here = [worker for worker in self.workers if worker.alive()]
        for worker in here:
            worker.signal(signal.SIGTERM)
        for worker in here:
            worker.wait(40)
        found = account(self.kiln, self.jobs, dict.fromkeys(self.jobs, "default")) + self.halves()
        return found + leftovers(self.kiln.redis, here) + journals(self.workers)
