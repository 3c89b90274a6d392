"""What the server itself says of a stretch of time: its share of a core, its commands, its slow calls."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import redis

_OPERATION = re.compile(rb'"operation": "(\w+)"')
KEPT = 500_000  # entries of the slow log


@dataclass
class Seen:
    """A stretch of time on the server."""

    seconds: float
    core: float  # share of a core that the process used
    main: float  # and its main thread, which runs all commands
    calls: dict[str, tuple[int, float]]  # of each command: calls, ms in all

    def __str__(self) -> str:
        total = sum(calls for calls, _ in self.calls.values())
        most = sorted(self.calls.items(), key=lambda one: -one[1][1])[:9]
        each = (
            f"{name} {calls / self.seconds:,.0f}/s {ms / self.seconds / 10:.1f}%"
            for name, (calls, ms) in most
        )
        return (
            f"{self.core:.0%} of a core ({self.main:.0%} its main thread), "
            f"{total / self.seconds:,.0f} commands/s; {', '.join(each)}"
        )


class Watch:
    """Looks at a server from its making until `seen`."""

    def __init__(self, connection: redis.Redis, slower: int) -> None:
        """The slow log has what took `slower` µs and more."""
        self._connection = connection
        connection.config_set("slowlog-max-len", KEPT)
        connection.config_set("slowlog-log-slower-than", slower)
        connection.config_set("latency-monitor-threshold", 5)
        connection.config_resetstat()
        connection.slowlog_reset()
        connection.execute_command("LATENCY", "RESET")
        self._cpu = self._used()
        self._began = time.monotonic()

    def seen(self) -> Seen:
        """Since the beginning."""
        seconds = time.monotonic() - self._began
        core, main = ((now - then) / seconds for now, then in zip(self._used(), self._cpu, strict=True))
        stats: Any = self._connection.info("commandstats")
        calls = {
            name.removeprefix("cmdstat_").lower(): (one["calls"], one["usec"] / 1000)
            for name, one in stats.items()
        }
        return Seen(seconds, core, main, calls)

    def slow(self) -> dict[str, list[float]]:
        """Times of the slow log in ms, by operation: of a script its name, else the command."""
        found = defaultdict(list)
        log: Any = self._connection.slowlog_get(KEPT)
        for entry in log:
            named = _OPERATION.search(entry["command"])
            name = named[1] if named else entry["command"].split(b" ")[0].lower()
            found[name.decode("utf-8", "replace")].append(entry["duration"] / 1000)
        return dict(found)

    def events(self) -> str:
        """The server's own latency events, the longest of each in ms."""
        latest: Any = self._connection.execute_command("LATENCY", "LATEST")
        return ", ".join(f"{name.decode()} {longest} ms" for name, _, _, longest, *_ in latest)

    def _used(self) -> tuple[float, float]:
        cpu: Any = self._connection.info("cpu")
        main = cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"]
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"], main


def spread(times: list[float]) -> str:
    """Median, 99th percentile, maximum, in ms, and how many."""
    every = sorted(times)
    if not every:
        return "none"
    p50, p99 = every[len(every) // 2], every[int(0.99 * (len(every) - 1))]
    return f"{p50:.2f} / {p99:.2f} / {every[-1]:.1f} ({len(every):,})"
