"""A farm of many workers on one Redis: its share of a core, takes a second, latencies."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from pydantic import SecretStr

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.worker.local.valkey import Valkey
from tests.benchmarks.scale.macs import PRIORITIES, Plan, simulate
from tests.benchmarks.scale.server import Watch, spread

SLOW = 5000  # µs from which a call of the window is kept
WHOLE = 10.0  # seconds in which every call is kept, after the window


def carry(plan: Plan, window: float, processes: int) -> None:
    """Run it and print what was seen."""
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        settings = Settings(
            redis_url=SecretStr(valkey.url),
            home=Path(folder),
            admin_key=SecretStr("the key of the simulation"),
        )
        with Kiln(settings) as kiln:
            fill(kiln, plan)
            spawn = multiprocessing.get_context("spawn")
            orders = [spawn.Queue() for _ in range(processes)]
            answers = spawn.Queue()
            running = [
                spawn.Process(
                    target=simulate, args=(settings, plan, part, processes, one, answers), daemon=True
                )
                for part, one in enumerate(orders)
            ]
            for process in running:
                process.start()
            wait_for(kiln, plan)
            time.sleep(plan.seconds + 5)
            for one in orders:
                one.put("clear")
            load = os.getloadavg()[0]
            seen = Watch(kiln.redis, SLOW)
            time.sleep(window)
            told, slow, events = seen.seen(), seen.slow(), seen.events()
            every = Watch(kiln.redis, 0)
            time.sleep(WHOLE)
            times = every.slow()
            began = time.monotonic()
            farm = kiln.farm()
            asked = time.monotonic() - began
            clients = kiln.redis.info("clients")["connected_clients"]  # type: ignore[index]
            memory = kiln.redis.info("memory")["used_memory"] / 1e6  # type: ignore[index]
            for one in orders:
                one.put("stop")
            parts = [answers.get(timeout=60) for _ in running]
        took: dict[str, list[float]] = defaultdict(list)
        for acts, _, _ in parts:
            for what, ms in acts.items():
                took[what] += ms
        print(f"\n{plan}\nload {load:.1f} at the start of the window, {os.getloadavg()[0]:.1f} at its end")
        print(f"{len(times['take']) / WHOLE:.1f} takes/s; {told}")
        print(f"{clients:,} connections, {memory:,.0f} MB, {len(farm.lanes):,} lanes; farm() {asked:.2f} s")
        longer = ", ".join(f"{name} {spread(ms)}" for name, ms in slow.items())
        print(f"longer than {SLOW / 1000:g} ms in {told.seconds:.0f} s: {longer or 'none'}")
        print(f"latency events: {events or 'none of 5 ms'}")
        print(f"on the server, every call of {WHOLE:g} s, p50 / p99 / max ms (calls):")
        for name, ms in sorted(times.items(), key=lambda one: -sum(one[1]))[:14]:
            print(f"  {name:14} {spread(ms)}  {sum(ms) / WHOLE / 10:.1f}%")
        print("at the client, with the threads of the simulation:")
        for what, ms in sorted(took.items()):
            print(f"  {what:14} {spread(ms)}")
        print(f"  begun late by  {spread([one for _, late, _ in parts for one in late])}", flush=True)
        for _, _, failed in parts:
            print(*failed, sep="\n")


def fill(kiln: Kiln, plan: Plan) -> None:
    """Ten jobs of each client, and at least two for each worker."""
    count = max(10 * plan.clients, 2 * plan.workers)
    kiln.submit_many(
        [
            {
                "prompt": "a fox in the rain",
                "model": "demo",
                "client": f"c{n % plan.clients}",
                "priority": PRIORITIES[n // plan.clients % 4],  # type: ignore[typeddict-item]
            }
            for n in range(count)
        ]
    )


def wait_for(kiln: Kiln, plan: Plan) -> None:
    """Until every worker has told of itself."""
    till = time.monotonic() + 300
    while int(kiln.redis.scard("rq:workers")) < plan.workers:  # type: ignore[arg-type]
        assert time.monotonic() < till, "the workers do not come"
        time.sleep(1)
