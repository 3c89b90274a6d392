"""What a take costs the server, by the index of lanes and by the scan of them that version 0.1 made.

python -m tests.benchmarks.take [--rounds N] [--only WORD] [--new]

Times are the server's own (commandstats, usec of each EVALSHA), in ms a call; Valkey is as `kiln up` runs it.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis

from pixelkiln.jobs.lanes import Lane
from pixelkiln.worker.local.valkey import Valkey
from pixelkiln.worker.queue.claim import Claim, new_execution, stamp
from pixelkiln.worker.queue.claims import LEASE, STALE, Claims

Then = Callable[[redis.Redis], None]
Calls = list[tuple[str, float]]  # which, and its ms on the server

SCAN = Path(__file__).with_name("take_by_scan.lua")
KINDS = [f"model-{n}:bf16" for n in range(5)]
MILLION = 1_000_000
AWAITED = ("last",)  # the job behind whatever lies before it
BASE = 1_700_000_000.0  # when the first job was enqueued; all count as having waited too long, or none


class Timed:
    """The server's own time of each call of a script."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self.calls: Calls = []

    def used(self) -> int:
        """Microseconds that scripts have run in all."""
        stats: Any = self.connection.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {}).get("usec", 0))

    def timed(self, name: str, call: Callable[[], Any]) -> Any:
        """Make one call, note its time."""
        before = self.used()
        answer = call()
        self.calls.append((name, (self.used() - before) / 1000))
        return answer


class ByIndex(Claims):
    """Claims as they are, with each call timed."""

    def __init__(self, connection: redis.Redis, timed: Timed) -> None:
        super().__init__(connection, "bench")
        self._timed = timed

    def _call(self, operation: str, **named: Any) -> Any:
        if operation not in ("take", "look"):
            return super()._call(operation, **named)
        return self._timed.timed(operation, lambda: super(ByIndex, self)._call(operation, **named))


class ByScan(ByIndex):
    """Claims whose take is that of version 0.1."""

    def __init__(self, connection: redis.Redis, timed: Timed) -> None:
        super().__init__(connection, timed)
        self._old = connection.register_script(SCAN.read_text())

    def take(self, served: Any, resident: Any = (), **named: Any) -> Claim | None:  # type: ignore[override]
        """As version 0.1 asked."""
        started = datetime.now(UTC)
        stale = stamp(datetime.fromtimestamp(started.timestamp() - STALE, UTC))
        without = named.get("without", ())
        about = [
            "take",
            new_execution(),
            self.worker,
            stamp(started),
            LEASE,
            30.0,
            stale,
            "".join(resident[:1]),
        ]
        asked = [*about, named.get("memory", 2**53), "-", len(without), *without, *served]
        for _ in range(100):
            found = self._timed.timed("take", lambda: self._old(args=asked))
            if found != b"more":
                break
        if not found or found == b"more":
            return None
        job_id, lane, data, submitted, attempt, crashes = found
        parsed = Lane.parse(lane)
        assert parsed is not None
        execution, since = asked[1], submitted.decode()
        return Claim(job_id.decode(), execution, parsed, data, since, attempt, crashes, started)


@dataclass
class Farm:
    """What lies in Redis, and how takes are asked."""

    fill: Callable[[redis.Redis], None]
    served: list[str] = field(default_factory=lambda: KINDS[:1])
    takes: int = 200
    old_takes: int = 200  # fewer where each is slow
    memory: int = 2**53
    without: list[str] = field(default_factory=list)
    cold: bool = False  # not warmed up by three takes; then takes are made until one gives a job


def name(n: int, lanes: int, kinds: int) -> str:
    """One of many lanes, each of a client of its own."""
    return f"kiln:{KINDS[n % kinds]}:{('normal', 'high', 'low')[n % 3 if lanes > 3 else 0]}:c{n}"


def push(pipe: Any, lane: str, ids: list[str], known: int, since: float, **more: str) -> None:
    """Put jobs into a lane; records for the first `known`, which are those that are looked at."""
    for n, job in enumerate(ids[:known]):
        moment = stamp(datetime.fromtimestamp(since + n, UTC))
        record = {"status": "queued", "origin": lane, "enqueued_at": moment, "data": "[" + "x" * 300, **more}
        pipe.hset(f"rq:job:{job}", mapping=record)
    for at in range(0, len(ids), 1000):
        pipe.rpush(f"rq:queue:{lane}", *ids[at : at + 1000])
    pipe.sadd("rq:queues", f"rq:queue:{lane}")


def even(lanes: int, jobs: int, kinds: int = 1, *, shared: bool = False) -> Callable[[redis.Redis], None]:
    """As many jobs in each lane; `shared`: one client's lanes are one of each kind."""

    def fill(connection: redis.Redis) -> None:
        each = jobs // lanes
        pipe = connection.pipeline(transaction=False)
        for n in range(lanes):
            lane = f"kiln:{KINDS[n % kinds]}:normal:c{n // kinds}" if shared else name(n, lanes, kinds)
            push(pipe, lane, [f"j{n}-{i}" for i in range(each)], min(each, 1000 // lanes + 4), BASE + n)
            if n % 100 == 99 or each > 1000:
                pipe.execute()
        pipe.execute()

    return fill


def also(*parts: Callable[[redis.Redis], None]) -> Callable[[redis.Redis], None]:
    """One after another."""
    return lambda connection: [part(connection) for part in parts] and None  # type: ignore[func-returns-value]


def left(connection: redis.Redis) -> None:
    """200 lanes of 100 jobs that only larger workers may take, as either version leaves them."""
    till = f"{2**40} {int(datetime.now(UTC).timestamp()) + 500}"
    pipe = connection.pipeline(transaction=False)
    for n in range(200):
        plain, apart = f"kiln:{KINDS[0]}:normal:c{n}", f"kiln:{KINDS[0]}>{2**40}:normal:c{n}"
        for lane, mark in ((plain, "old"), (apart, "new")):
            push(pipe, lane, [f"{mark}{n}-{i}" for i in range(100)], 100, BASE, kiln_needs=till)
    pipe.zadd("kiln:kinds", {f"{KINDS[0]}>{2**40}": datetime.now(UTC).timestamp()})
    pipe.execute()


def clocks(connection: redis.Redis) -> None:
    """10,000 clients, all behind a floor that has passed them."""
    for start in range(0, 10_000, 1000):
        connection.hset("kiln:clocks", mapping={f"c{n}": 50 + n % 97 for n in range(start, start + 1000)})


def passed(connection: redis.Redis) -> None:
    """The floor rises above everyone's clock, after they were indexed."""
    connection.set("kiln:now", 1_000_000)


def flood(command: str, key: str, count: int, prefix: str) -> Then:
    """Names of nothing, and then a job of a producer on plain RQ."""

    def fill(connection: redis.Redis) -> None:
        for start in range(0, count, 10_000):
            connection.execute_command(command, key, *(f"{prefix}{n}" for n in range(start, start + 10_000)))
        push(pipe := connection.pipeline(), f"kiln:{KINDS[0]}:high:honest", ["last"], 1, BASE)
        pipe.execute()

    return fill


def dead(connection: redis.Redis) -> None:
    """30,000 ids without a record before a job."""
    lane = name(0, 1, 1)
    for start in range(0, 30_000, 1000):
        connection.rpush(f"rq:queue:{lane}", *(f"gone{n}" for n in range(start, start + 1000)))
    push(pipe := connection.pipeline(), lane, ["last"], 1, BASE)
    pipe.lpush("kiln:mail", lane)
    pipe.execute()


def emptied(connection: redis.Redis) -> None:
    """10,000 lanes that are indexed and empty, and one job."""
    keys = [f"rq:queue:{name(n, 10_000, 1)}" for n in range(10_000)]
    for start in range(0, 10_000, 1000):
        connection.delete(*keys[start : start + 1000])
    push(pipe := connection.pipeline(), f"kiln:{KINDS[0]}:low:last", ["last"], 1, BASE)
    pipe.lpush("kiln:mail", f"kiln:{KINDS[0]}:low:last")
    pipe.execute()


PAUSED = [f"c{n}" for n in range(4000)]
ROWS: dict[str, Farm] = {
    "1 lane, 1,000 jobs": Farm(even(1, 1000)),
    "100 lanes, 1M jobs": Farm(even(100, MILLION)),
    "1,000 lanes, 1M jobs": Farm(even(1000, MILLION)),
    "1,000 lanes, 20,000 jobs, 5 kinds": Farm(even(1000, 20_000, 5), KINDS),
    "200 clients × 5 kinds, 20,000 jobs": Farm(even(1000, 20_000, 5, shared=True), KINDS),
    "10,000 lanes, 20,000 jobs, 5 kinds": Farm(even(10_000, 20_000, 5), KINDS, old_takes=30),
    "10,000 lanes, 1M jobs, 5 kinds": Farm(even(10_000, MILLION, 5), KINDS, old_takes=30),
    "10,000 lanes, 4,000 clients paused": Farm(even(10_000, 20_000), old_takes=30, without=PAUSED),
    "200 lanes × 100 left jobs, one small one": Farm(
        also(left, even(1, 1)), takes=20, old_takes=20, memory=2**30
    ),
    "first take at 1,000 lanes": Farm(even(1000, 2000), cold=True),
    "first take at 10,000 lanes": Farm(even(10_000, 20_000, 5), KINDS, cold=True),
}
AFTER: dict[str, tuple[Farm, Then]] = {  # with what happens once all is indexed
    "the floor passes 10,000 clients": (
        Farm(also(even(10_000, 20_000), clocks), takes=50, old_takes=20),
        passed,
    ),
    "30,000 dead ids before a job": (Farm(even(1, 4), takes=9, old_takes=9, cold=True), dead),
    "10,000 lanes emptied": (Farm(even(10_000, 20_000), takes=9, old_takes=9, cold=True), emptied),
    "1M names of nothing in rq:queues": (
        Farm(even(1, 1), takes=150, old_takes=150, cold=True),
        flood("SADD", "rq:queues", MILLION, f"rq:queue:kiln:{KINDS[0]}:low:x"),
    ),
    "1M names in the mailbox": (
        Farm(even(1, 1), takes=150, old_takes=150, cold=True),
        flood("LPUSH", "kiln:mail", MILLION, f"kiln:{KINDS[0]}:low:x"),
    ),
}


def run(url: str, farm: Farm, kind: type[ByIndex], then: Then | None) -> Calls:
    """The times of all calls of a row's takes."""
    with redis.Redis.from_url(url, protocol=2, socket_timeout=120) as connection:
        connection.flushall()
        farm.fill(connection)
        timed = Timed(connection)
        claims = kind(connection, timed)

        def take() -> Claim | None:
            return claims.take(farm.served, KINDS[0], memory=farm.memory, without=farm.without)

        def settle(claim: Claim | None, n: int) -> None:
            if claim is not None:
                claims.finish(claim, {"png": "p", "sidecar": "s", "sha256": "0"}, (10.0, 25.0, 60.0)[n % 3])

        if then is not None or not farm.cold:
            for n in range(3):
                settle(take(), n)
        if then is not None:
            then(connection)
        timed.calls.clear()
        for n in range(farm.takes if kind is ByIndex else farm.old_takes):
            settle(claim := take(), n)
            if farm.cold and claim is not None and (then is None or claim.job_id in AWAITED):
                break
        return timed.calls


def looks(url: str) -> Iterator[tuple[str, Calls]]:
    """A look through 10,000 known lanes, whole and passing over what is known."""
    with redis.Redis.from_url(url, protocol=2, socket_timeout=120) as connection:
        connection.flushall()
        even(10_000, 20_000, 5)(connection)
        timed = Timed(connection)
        claims = ByIndex(connection, timed)
        claims.take(KINDS)
        for title in ("whole", "light"):
            if title == "whole":
                connection.delete("kiln:looked:whole")
            timed.calls.clear()
            claims.look(due=True)
            yield f"look through 10,000 lanes, {title}", list(timed.calls)


def shown(rounds: list[Calls], what: str = "take") -> str:
    """Median, 99th percentile and maximum of one kind of call; of the 99th percentile also each round's."""
    times = [sorted(ms for name, ms in calls if name == what) for calls in rounds]
    every = sorted(ms for one in times for ms in one)
    high = [one[int(0.99 * (len(one) - 1))] for one in times]
    longest = max(ms for calls in rounds for _, ms in calls)
    count = sum(map(len, rounds)) // len(rounds)
    total = sum(ms for calls in rounds for _, ms in calls) / len(rounds)
    p50, p99 = every[len(every) // 2], every[int(0.99 * (len(every) - 1))]
    spread = f"{min(high):.2f}–{max(high):.2f}"
    return f"{p50:.2f} / {p99:.2f} ({spread}) / {every[-1]:.1f} | {longest:.1f} | {count} | {total:.0f}"


def main() -> None:
    """Print the table."""
    parse = argparse.ArgumentParser(prog="take", description=__doc__)
    parse.add_argument("--rounds", type=int, default=3, help="of each row, the two versions in turn")
    parse.add_argument("--only", default="", help="rows whose name has this in it")
    parse.add_argument("--new", action="store_true", help="the index alone")
    asked = parse.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("a take: p50 / p99 (rounds) / max; the longest call of any kind; calls, ms in all of a round")
    rows: dict[str, tuple[Farm, Then | None]]
    rows = {title: (farm, None) for title, farm in ROWS.items()}
    with tempfile.TemporaryDirectory() as folder, Valkey(Path(folder)) as valkey:
        for title, (farm, then) in (rows | AFTER).items():
            if asked.only in title:
                for kind in (ByIndex,) if asked.new else (ByIndex, ByScan):
                    rounds = [run(valkey.url, farm, kind, then) for _ in range(asked.rounds)]
                    print(f"| {title} | {kind.__name__} | {shown(rounds)} |", flush=True)
        if asked.only in "look through":
            for title, calls in looks(valkey.url):
                print(f"| {title} | ByIndex | {shown([calls], 'look')} |", flush=True)


if __name__ == "__main__":
    main()
