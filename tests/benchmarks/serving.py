"""What `kiln serve` and those who call it cost three workers that render, and what memory it takes.

python -m tests.benchmarks.serving [--apart] [--pairs N] [--seconds S] [--memory MINUTES] [--side PIXELS]

Servers of its own, one `kiln serve`, three workers with the demo's model that never wait for jobs. Windows
with the load of callers.py and without it alternate, either of them first in every other pair; steps are as
sidecars tell them, of the pictures that were rendered within one window. `--apart` (Linux): the workers on
one core, all else on the others, as where a GPU renders; without it all share all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from pixelkiln import Kiln, Settings
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.web.tokens import Tokens
from pixelkiln.worker.local.instance import up

WORKERS = 3
AHEAD = 120  # jobs that wait, at least
SETTLING = 2.0  # seconds of a window before which nothing counts
ENDS = 30.0  # seconds that a process may take to end
MiB = 2**20


@dataclass
class Window:
    """A stretch of time with load or without, and what pictures of it told."""

    load: bool
    began: float = 0.0
    ended: float = 0.0
    cores: dict[str, float] = field(default_factory=dict)  # of one core, what each process used
    steps: list[float] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)  # from take to the picture being stored

    def holds(self, one: Sidecar) -> bool:
        """Whether a picture was rendered within it."""
        began, ended = (datetime.fromisoformat(at) for at in (one.job.started_at, one.job.rendered_at))
        return self.began + SETTLING <= began.timestamp() and ended.timestamp() <= self.ended


@dataclass
class Farm:
    """What runs."""

    kiln: Kiln
    serve: subprocess.Popen[str]
    callers: subprocess.Popen[str]
    others: dict[str, int]  # the servers' process ids
    side: int
    steps: int
    ids: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def feed(self) -> None:
        """Let no worker wait, until done."""
        while not self.done.wait(1.0):
            waiting = sum(lane.queued for lane in self.kiln.farm().lanes)
            if waiting < AHEAD:
                spec = {"prompt": "a red fox in the snow at dusk", "model": "demo", "steps": self.steps}
                spec |= {"width": self.side, "height": self.side}
                self.ids += [job.id for job in self.kiln.submit_many([spec] * (AHEAD - waiting))]

    def used(self) -> dict[str, float]:
        """CPU seconds of each so far."""
        found = {}
        for name, pid in {"serve": self.serve.pid, "callers": self.callers.pid, **self.others}.items():
            told = psutil.Process(pid).cpu_times()
            found[name] = told.user + told.system
        return found

    def order(self, word: str) -> dict[str, Any]:
        """Tell the callers, and what they answer."""
        assert self.callers.stdin is not None
        assert self.callers.stdout is not None
        print(word, file=self.callers.stdin, flush=True)
        told: dict[str, Any] = json.loads(self.callers.stdout.readline())
        return told


def stay(cores: set[int]) -> None:
    """Let this process, and those that it starts, run on these cores alone, where that can be said."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, cores)


@contextmanager
def running(arguments: list[str], **named: Any) -> Iterator[subprocess.Popen[str]]:
    """A process while the block lasts."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], text=True, **named)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(ENDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def farm(home: Path, *, apart: bool, side: int, steps: int) -> Iterator[Farm]:
    """All of it, on folders under `home`; each worker has rendered something."""
    if apart:
        stay(set(range(1, os.cpu_count() or 2)))
    environment = os.environ | {"KILN_HOME": str(home / ".kiln"), "OPENBLAS_NUM_THREADS": "1"}
    tokens = Tokens(home / "tokens.json")
    made = [tokens.make(name, "default", admin=True) for name in ("streams", "requests")]
    with up(home / ".kiln") as local, Kiln(Settings(home=home / ".kiln")) as kiln, ExitStack() as stack:
        for number in range(WORKERS):
            named = {"KILN_WORKER_NAME": f"mac-{number}", "KILN_SPOOL_DIR": str(home / f"spool-{number}")}
            log = stack.enter_context((home / f"worker-{number}.log").open("w"))
            arguments = ["pixelkiln", "worker", "-m", "demo"]
            stack.enter_context(
                running(
                    arguments,
                    env=environment | named,
                    stderr=log,
                    preexec_fn=(lambda: stay({0})) if apart else None,
                )
            )
        asked = ["pixelkiln", "serve", "--port", "0", "--tokens", str(home / "tokens.json")]
        serve = stack.enter_context(running(asked, env=environment, stderr=subprocess.PIPE))
        assert serve.stderr is not None
        url = serve.stderr.readline().split()[1]
        threading.Thread(target=serve.stderr.read, daemon=True).start()  # or it would wait for a reader
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        callers = stack.enter_context(running(["tests.benchmarks.callers", url], env=environment, **pipes))
        assert callers.stdin is not None
        print(*made, file=callers.stdin, flush=True)
        servers = {"valkey": local.valkey.pid, "seaweed": local.seaweed.pid}
        found = Farm(kiln, serve, callers, servers, side, steps)
        feeding = threading.Thread(target=found.feed)
        feeding.start()
        try:
            while len({one.worker for one in kiln.page(state="finished", limit=100)[0]}) < WORKERS:
                assert feeding.is_alive(), "no jobs are submitted"
                time.sleep(1)
            yield found
        finally:
            found.done.set()
            feeding.join()


def windows(run: Farm, pairs: int, seconds: float) -> list[Window]:
    """Pairs of windows, one after another; each with load in turn the first and the second of its pair."""
    found = []
    for number in range(pairs):
        for load in (True, False) if number % 2 else (False, True):
            window = Window(load)
            if load:
                opened = run.order("on")
            before, window.began = run.used(), time.time()
            time.sleep(seconds)
            after, window.ended = run.used(), time.time()
            lasted = window.ended - window.began
            window.cores = {name: (after[name] - before[name]) / lasted for name in after}
            if load:
                print(
                    f"pair {number + 1}: open in {opened['seconds']:.1f} s; {said(run.order('off'))}",
                    flush=True,
                )
            found.append(window)
    return found


def said(told: dict[str, Any]) -> str:
    """What the callers told, in one line."""
    answers = ", ".join(f"{number} x {name}" for name, number in sorted(told["answers"].items()))
    return (
        f"{told['open']} streams, {told['events']} events, {answers}; p50 {told['p50']:.0f} ms,"
        f" p99 {told['p99']:.0f} ms"
    )


def read(run: Farm, found: list[Window]) -> None:
    """Give each window what the pictures tell that were rendered in it."""
    for job_id, status in run.kiln.queue.statuses(list(run.ids)).items():
        if status is None or status.state != "finished":
            continue
        one = run.kiln.sidecar(job_id)
        for window in found:
            if window.holds(one):
                window.steps += one.timings.steps
                window.totals.append(one.timings.total)


def compare(found: list[Window], what: str) -> None:
    """Print the ratio of a mean with load to that without, by pairs."""
    pairs = [sorted(found[n : n + 2], key=lambda one: one.load) for n in range(0, len(found), 2)]
    means = [[statistics.fmean(getattr(one, what)) for one in pair] for pair in pairs]
    without, beside = (statistics.median(column) for column in zip(*means, strict=True))
    ratios = [b / a for a, b in means]
    drawn = random.Random(1)
    again = sorted(statistics.median(drawn.choices(ratios, k=len(ratios))) for _ in range(10_000))
    alone = [b[0] / a[0] for a, b in pairwise(means)] or [1.0]
    number = [sum(len(getattr(pair[n], what)) for pair in pairs) for n in (0, 1)]
    print(
        f"{what}: {without:.4f} s without, {beside:.4f} s beside the load (medians of windows' means;"
        f" {number[0]}, {number[1]} of them): ratio of medians {beside / without:.4f};"
        f" pairs: median {statistics.median(ratios):.4f}, 95% {again[250]:.4f} to {again[-250]:.4f},"
        f" all {min(ratios):.3f} to {max(ratios):.3f};"
        f" one window without to the next: {min(alone):.3f} to {max(alone):.3f}",
        flush=True,
    )


def memory(run: Farm, minutes: float) -> None:
    """Load without a rest, and what memory the server has meanwhile, each second."""
    run.order("on")
    process, began, seen = psutil.Process(run.serve.pid), time.monotonic(), []
    while (at := time.monotonic() - began) < minutes * 60:
        seen.append((at / 60, process.memory_info().rss / MiB))
        time.sleep(1)
    print(f"memory: {said(run.order('off'))}")
    for minute in range(int(minutes)):
        part = [rss for at, rss in seen if minute <= at < minute + 1]
        print(f"minute {minute + 1}: median {statistics.median(part):.1f} MiB, most {max(part):.1f}")
    for since in (0, 1, minutes / 2):
        part = [one for one in seen if one[0] >= since]
        slope = statistics.linear_regression(*zip(*part, strict=True)).slope
        print(f"from minute {since:.0f} on: {slope:+.3f} MiB a minute", flush=True)


def main() -> None:
    """As the module says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--memory", type=float, default=10.0)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with farm(home, apart=args.apart, side=args.side, steps=args.steps) as run:
            print(f"cores: {'apart' if args.apart else 'shared'}, load average {os.getloadavg()}", flush=True)
            found = windows(run, args.pairs, args.seconds)
            if found:
                read(run, found)
                for load in (False, True):
                    some = [one.cores for one in found if one.load == load]
                    used = {name: statistics.median(one[name] for one in some) for name in some[0]}
                    told = ", ".join(f"{name} {share:.0%}" for name, share in used.items())
                    print(f"{'beside the load' if load else 'without'}, of a core: {told}")
                compare(found, "steps")
                compare(found, "totals")
            if args.memory:
                memory(run, args.memory)


if __name__ == "__main__":
    main()
