"""One run: a farm under fire, and the account of its jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from rq.exceptions import InvalidJobOperation, NoSuchJobError

from pixelkiln.jobs import NotReadyError
from tests.chaos.account import Expected, account, halves, journals, leftovers
from tests.chaos.clocks import faketime, set_clock
from tests.chaos.crew import Worker, forks, until
from tests.chaos.dashboard import Dashboard
from tests.chaos.farm import Farm, Store
from tests.chaos.faults import Blow, Hand, extras, plan
from tests.chaos.load import Producer, Submission, cancel, handle, reuse, submissions

PATIENCE = 90.0  # seconds from the last fault to the last job's end
DISK = "6m"  # of the spool that is filled up
SPOOLED = 6  # pictures that a worker here may let wait for storage
SWEPT = 60.0  # seconds from the last job's end until nothing is left of those that were cancelled


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a run. `seed` decides the rest."""

    seed: int
    seconds: float
    jobs: int
    workers: int = 3
    lanes: int = 0  # beside: of one job each, of a kind that nobody serves, for all that looks through queues


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    blows: Counter[str] = field(default_factory=Counter)
    settled: float = 0.0  # seconds from the last fault to the end of the last job
    backlog: int = 0  # jobs that had not ended at the last fault
    notes: list[str] = field(default_factory=list)
    executions: int = 0
    quarantined: int = 0

    def __str__(self) -> str:
        ends = ", ".join(f"{n} {state}" for state, n in sorted(self.states.items()))
        blows = ", ".join(f"{kind} {n}" for kind, n in sorted(self.blows.items()))
        return (
            f"seed {self.plan.seed}: {sum(self.states.values())} jobs: {ends}"
            f" ({self.quarantined} quarantined); {self.executions} executions;"
            f" the last {self.backlog} ended {self.settled:.0f} s after the last fault;"
            f" {len(self.violations)} violations"
            f"\n    faults: {blows}"
            + "".join(f"\n    note: {note}" for note in self.notes)
            + "".join(f"\n    VIOLATED: {one}" for one in self.violations)
        )


class Run:
    """Plays one plan in `folder`, where its event log and every worker's log and journal stay."""

    def __init__(self, plan: Plan, folder: Path, store: Store) -> None:
        self._plan = plan
        self._folder = folder
        self._farm = Farm(folder, store)
        self._over = threading.Event()  # the faults are over
        self._left = threading.Event()  # nobody is started again
        self._workers: list[Worker] = []
        self._outcome = Outcome(plan)
        self._submitted: list[Submission] = []
        self._reused: set[str] = set()
        self._cancelled: set[str] = set()  # by `kiln cancel`
        self._later: list[threading.Thread] = []
        self._most_spooled: Counter[str] = Counter()
        self._lock = threading.Lock()

    def play(self) -> Outcome:
        """Do it all."""
        with ExitStack() as stack:
            stack.enter_context(self._farm)
            self._log = stack.enter_context((self._folder / "events").open("w", buffering=1))
            self._started = time.monotonic()
            self._hire(stack)
            self._hand = Hand(self._farm, self._workers, self._note, self._over)
            self._crowd()
            dashboard = Dashboard(self._farm)
            dashboard.start()
            supervisor = threading.Thread(target=self._supervise, daemon=True)
            supervisor.start()
            self._fire()
            self._calm()
            self._left.set()
            supervisor.join()
            self._dismiss()
            self._farm.kiln().cancel_all("farm", any_client=True)  # the crowd
            dashboard.stop()
            ranked = sorted(dashboard.longest.items(), key=lambda one: -one[1])
            self._outcome.notes.append(
                "longest calls, ms: " + ", ".join(f"{name} {ms:.1f}" for name, ms in ranked)
            )
            self._count()
        return self._outcome

    def _crowd(self) -> None:
        """Fill lanes that nobody serves."""
        spec = {"prompt": "waits", "model": "demo", "quantization": "q8", "width": 64, "height": 64}
        self._farm.kiln().submit_many([spec | {"client": f"crowd-{i}"} for i in range(self._plan.lanes)])

    def _hire(self, stack: ExitStack) -> None:
        context = forks()
        for index in range(self._plan.workers):
            slot = f"w{index}"
            spool = self._small_disk(stack) if index == 0 else None
            clock = None
            if index == self._plan.workers - 1 and faketime() and self._plan.workers > 1:
                clock = self._folder / "clock"
                set_clock(clock, 0)
            orders = self._farm.orders(slot, spool)
            orders.settings["spool_jobs"] = SPOOLED
            worker = Worker(orders, context, clock)
            self._workers.append(worker)
            stack.callback(worker.end)
            worker.start()
        if faketime() is None:
            self._outcome.notes.append("no libfaketime: clocks did not jump")

    def _small_disk(self, stack: ExitStack) -> Path | None:
        """A spool on a disk of its own that can be filled up, where we may mount one."""
        folder = self._folder / "disk"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
        if os.geteuid() or sys.platform != "linux" or subprocess.run(mount, check=False).returncode:
            self._outcome.notes.append("not root on Linux: no disk was filled up")
            return None
        stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=False)
        return folder / "spool"

    def _fire(self) -> None:
        """Submit and strike, until the time is up."""
        seconds = self._plan.seconds
        disk = self._workers[0].spool.parent.name == "disk"
        clock = self._workers[-1].clock is not None
        tracks = plan(self._plan.seed, seconds, self._plan.workers)
        tracks += extras(self._plan.seed, seconds, disk, clock)
        threads = [threading.Thread(target=self._strike, args=(track,)) for track in tracks]
        threads.append(threading.Thread(target=self._submit))
        for thread in threads:
            thread.start()
        self._over.wait(seconds)
        self._over.set()
        for thread in threads:
            thread.join()

    def _strike(self, track: list[Blow]) -> None:
        for blow in track:
            if self._over.wait(max(0.0, self._started + blow.at - time.monotonic())) and blow.kind != "clock":
                return
            with self._lock:
                self._outcome.blows[f"{blow.kind} {blow.word}" if "spoil" in blow.kind else blow.kind] += 1
            try:
                self._hand.throw(blow)
            except Exception as error:  # a fault that cannot be thrown is the harness's own failure
                self._violated(f"harness: {blow} ended with {error!r}")

    def _submit(self) -> None:
        producer = Producer(self._farm.kiln(), self._note)
        for one in submissions(self._plan.seed, self._plan.jobs, self._plan.seconds * 0.85):
            time.sleep(max(0.0, self._started + one.at - time.monotonic()))
            try:
                producer.submit(one, self._started + self._plan.seconds + PATIENCE)
            except Exception as error:
                self._violated(f"harness: {one.id} could not be submitted: {error!r}")
                continue
            with self._lock:
                self._submitted.append(one)
            meddlers = {"cancel": self._cancel, "tools": self._handle, "reuse": self._reuse}
            if one.kind in meddlers:
                thread = threading.Timer(0.5 + int(one.at * 10) % 4, meddlers[one.kind], (one,))
                self._later.append(thread)
                thread.start()

    def _cancel(self, one: Submission) -> None:
        with suppress(redis.RedisError, NotReadyError, InvalidJobOperation, NoSuchJobError):
            if zlib.crc32(one.id.encode()) % 2:
                self._cancelled.add(one.id)  # though the answer be lost
                self._farm.kiln().cancel([one.id], any_client=True)
            else:
                cancel(self._farm.kiln().redis, one.id)
            self._note("cancel", job=one.id)

    def _handle(self, one: Submission) -> None:
        with suppress(redis.RedisError, InvalidJobOperation, NoSuchJobError):
            handle(self._farm.kiln().redis, one)
            self._note("handle", job=one.id)

    def _reuse(self, one: Submission) -> None:
        """Once the job has ended: Redis forgets it, and its id is used for another picture."""
        # As its client, who finds it in the bucket where a try to use the id broke off.
        kiln, deadline = self._farm.kiln(one.client), self._started + self._plan.seconds + PATIENCE
        while time.monotonic() < deadline:
            with suppress(redis.RedisError, NotReadyError):
                status = kiln.statuses([one.id])[one.id]
                if status is not None and status.ended:
                    if reuse(kiln, one):
                        self._reused.add(one.id)
                        self._note("reuse", job=one.id)
                    return
            time.sleep(0.5)

    def _supervise(self) -> None:
        """Start again whoever has ended, as launchd would."""
        while not self._left.wait(0.1):
            for worker in self._workers:
                spooled = sum(name.startswith("done-") for name in worker.waiting())
                self._most_spooled[worker.slot] = max(spooled, self._most_spooled[worker.slot])
                if not worker.alive() and worker.slot not in self._hand.held:
                    self._note("start", slot=worker.slot, code=worker.wait(0))
                    worker.start()

    def _calm(self) -> None:
        """No more faults: everything should end now."""
        for relay in (self._farm.to_redis, self._farm.to_s3):
            relay.restore()
        self._note("calm")
        for thread in self._later:
            thread.join()
        calm = progress = time.monotonic()
        kiln = self._farm.kiln()
        waiting = [one.id for one in self._submitted]
        forgotten = {one.id for one in self._submitted if one.expected == "anything"}

        def open_ones(jobs: list[str]) -> list[str]:
            return [
                job
                for job, status in kiln.statuses(jobs).items()
                if (status is None and job not in forgotten) or (status is not None and not status.ended)
            ]

        backlog = len(open_ones(waiting))

        def over() -> bool:
            """Whether all has ended, or nothing has for too long: a backlog may take its time."""
            nonlocal waiting, progress
            with suppress(NotReadyError):
                left = open_ones(waiting)
                if len(left) < len(waiting):
                    progress = time.monotonic()
                waiting = left
            ended = not waiting and not any(worker.waiting() for worker in self._workers)
            return ended or time.monotonic() > progress + PATIENCE

        until(over, 10 * PATIENCE, "the end", every=0.2)
        self._outcome.settled = time.monotonic() - calm
        self._outcome.backlog = backlog
        self._note("settled", stuck=waiting)
        with suppress(TimeoutError):
            until(lambda: not self._halves(), SWEPT, every=0.5)

    def _halves(self) -> list[str]:
        """What lies in the bucket and should not: pictures without sidecars, and cancelled ones."""
        kiln = self._farm.kiln()
        clients = {one.id: one.client for one in self._submitted if one.expected != "failed"}
        ended = kiln.statuses(sorted(self._cancelled))
        unwanted = [job for job, status in ended.items() if status and status.state == "cancelled"]
        return halves(kiln, clients, unwanted)

    def _dismiss(self) -> None:
        """Ask all to leave; they have nothing left to do."""
        for worker in self._workers:
            if worker.alive():
                with suppress(TimeoutError):
                    until(worker.ready, 30)
                worker.signal(signal.SIGTERM)
        for worker in self._workers:
            # One that a drain made leave may have put its handlers away already.
            if (code := worker.wait(40)) not in (0, -signal.SIGTERM):
                self._violated(f"{worker.slot} left with {code}")

    def _count(self) -> None:
        kiln = self._farm.kiln()
        expected: dict[str, Expected] = {one.id: one.expected for one in self._submitted}
        expected |= dict.fromkeys(self._reused, "failed: used")
        clients = {one.id: one.client for one in self._submitted}
        specs = {one.id: one.spec for one in self._submitted}
        found = account(kiln, expected, clients, self._hand.strikes, specs) + self._halves()
        found += [
            f"{n} pictures lay in the spool of {slot}, where {SPOOLED} may"
            for slot, n in self._most_spooled.items()
            if n > SPOOLED
        ]
        found += leftovers(kiln.redis, self._workers) + journals(self._workers)
        self._outcome.violations += found
        statuses = [status for status in kiln.statuses(list(expected)).values() if status]
        self._outcome.states.update(status.state for status in statuses)
        self._outcome.quarantined = sum("quarantined" in status.error for status in statuses)
        self._outcome.executions = sum(
            event["event"] == "take" for worker in self._workers for event in worker.journal()
        )

    def _violated(self, what: str) -> None:
        with self._lock:
            self._outcome.violations.append(what)

    def _note(self, event: str, **more: Any) -> None:
        with self._lock, suppress(ValueError):
            record = {"t": round(time.monotonic() - self._started, 2), "event": event, **more}
            self._log.write(json.dumps(record) + "\n")
