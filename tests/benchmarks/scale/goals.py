"""`kiln status` and `kiln cancel` where much waits, takes beside them, the longest call of each script."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.worker.local.valkey import Valkey
from pixelkiln.worker.queue.claims import Claims
from tests.benchmarks.scale.macs import KIND, RESULT
from tests.benchmarks.scale.server import Watch, spread

KILN = [sys.executable, "-c", "from pixelkiln.worker.commands.app import main; main()"]
PRIORITIES = ("high", "normal", "low")
WORKERS = 1000
SLOW = 500  # µs from which calls are kept: to keep all of them is work for the server, too


def goals(rounds: int) -> None:
    """Print what was seen, round by round."""
    for number in range(rounds):
        for lanes, jobs in ((2000, 20_000), (1, 100_000)):
            with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
                settings = Settings(redis_url=SecretStr(valkey.url), home=Path(folder), client="c0")
                with Kiln(settings) as kiln:
                    load = os.getloadavg()[0]
                    print(f"\nround {number + 1}: {jobs:,} jobs in {lanes:,} lanes, load {load:.1f}")
                    watch = Watch(kiln.redis, SLOW)
                    fill(kiln, lanes, jobs)
                    told("submitting", watch)
                    environment = dict(os.environ, KILN_REDIS_URL=valkey.url, KILN_HOME=folder)
                    commands(kiln, settings, environment)
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        settings = Settings(redis_url=SecretStr(valkey.url), home=Path(folder), client="c0")
        with Kiln(settings) as kiln:
            for name, act in WHATEVER.items():
                act(kiln)
                print(f"\n{name}, load {os.getloadavg()[0]:.1f}")
                watch = Watch(kiln.redis, SLOW)
                kiln.cancel_all("farm", any_client=True)
                kiln.farm()
                told("cancelling all, reading the farm", watch)
                kiln.redis.flushall()


def fill(kiln: Kiln, lanes: int, jobs: int) -> list[str]:
    """As many jobs in each lane, three lanes a client, and workers that told of themselves; the ids."""
    specs = [
        {
            "prompt": "a fox in the rain",
            "model": "demo",
            "client": f"c{n % lanes // 3}",
            "priority": PRIORITIES[n % lanes % 3] if lanes > 1 else "normal",
        }
        for n in range(jobs)
    ]
    with kiln.redis.pipeline(transaction=False) as pipe:
        for n in range(WORKERS):
            pipe.sadd(keys.WORKERS, keys.WORKER(f"mac-{n}"))
            about = {"queues": KIND, "kiln_state": f"rendering j{n}", "hostname": f"mac-{n}"}
            pipe.hset(keys.WORKER(f"mac-{n}"), mapping=about)
        pipe.execute()
    return [one.id for one in kiln.submit_many(specs)]  # type: ignore[arg-type]


def commands(kiln: Kiln, settings: Settings, environment: dict[str, str]) -> None:
    """The commands as a person calls them; takes alone, and beside a cancel."""

    def ran(*arguments: str) -> None:
        watch, before, began = Watch(kiln.redis, SLOW), os.times(), time.monotonic()
        done = subprocess.run(
            [*KILN, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        wall, after = time.monotonic() - began, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        lines = done.stdout.count("\n")
        what = f"kiln {' '.join(arguments)}: {wall:.2f} s, {cpu:.2f} s of CPU, {lines:,} lines"
        told(what if done.returncode == 0 else f"{what}; exit {done.returncode} {done.stderr}", watch)

    for arguments in (["--help"], ["status"], ["status", "--json"], ["status", "--all"]):
        ran(*arguments)
    claims, times, end = Claims(kiln.redis, "mac-0"), [], threading.Event()

    def take() -> None:
        while not end.is_set():
            began = time.monotonic()
            claim = claims.take([KIND])
            times.append((time.monotonic() - began) * 1000)
            if claim is not None:
                claims.finish(claim, RESULT, 1.0)
            end.wait(0.03)

    claims.take([KIND])  # after which all lanes are indexed
    thread = threading.Thread(target=take)
    thread.start()
    time.sleep(5)
    print(f"  a take at the client, alone: {spread(times)}")
    times.clear()
    ran("cancel", "farm", "--any-client")
    beside = list(times)
    end.set()
    thread.join()
    print(f"  a take at the client, beside the cancel: {spread(beside)}; in all {kiln_left(kiln):,} are left")


def kiln_left(kiln: Kiln) -> int:
    """Jobs that wait."""
    return sum(lane.queued for lane in kiln.farm().lanes)


def told(what: str, watch: Watch) -> None:
    """Print a line: what was done, and the longest calls of our scripts."""
    names = {"take", "look", "submit", "cancel", "farm"}
    longest = {name: max(ms) for name, ms in watch.slow().items() if name in names}
    print(
        f"  {what}; longest ms on the server:",
        *(f"{name} {ms:.1f}" for name, ms in longest.items()),
        flush=True,
    )


def shuffled(kiln: Kiln) -> None:
    """All of a lane, half of them cancelled before, far from the front and in no order."""
    ids = fill(kiln, 1, 20_000)
    kiln.cancel(random.Random(0).sample(ids, 10_000))


def expired(kiln: Kiln) -> None:
    """A lane whose registry of cancelled jobs holds 200,000 that are due to be forgotten."""
    fill(kiln, 1, 1000)
    for start in range(0, 200_000, 10_000):
        kiln.redis.zadd(
            keys.CANCELED("kiln:demo:bf16:normal:c0"),
            {f"old-{n}": 1 + n for n in range(start, start + 10_000)},
        )


def started(kiln: Kiln) -> None:
    """Jobs that all are being rendered."""
    lane = "kiln:demo:bf16:normal:c0"
    for job in fill(kiln, 1, 2000):
        kiln.redis.lrem(keys.QUEUE(lane), 1, job)
        kiln.redis.set(keys.OWNER(job), "e" * 32)
        kiln.redis.hset(keys.JOB(job), "status", "started")
        kiln.redis.zadd(keys.STARTED(lane), {f"{job}:{'e' * 32}": 1e12})


def forged(kiln: Kiln) -> None:
    """Records of workers and jobs with long fields, and an owner of a megabyte."""
    ids = fill(kiln, 10, 1000)
    for n in range(WORKERS):
        kiln.redis.hset(keys.WORKER(f"mac-{n}"), "kiln_state", "x" * 8000)
    for job in ids[:200]:
        kiln.redis.set(keys.OWNER(job), "x" * 1_000_000)
    for job in ids[200:400]:
        kiln.redis.hset(keys.JOB(job), "origin", "x" * 1_000_000)


WHATEVER: dict[str, Callable[[Kiln], None]] = {
    "20,000 jobs of one lane, half cancelled in no order": shuffled,
    "a registry with 200,000 that are due": expired,
    "2,000 jobs that are being rendered": started,
    "forged records and owners": forged,
}
