"""Callers of one server, in a process of their own: streams that are read, and requests at a steady rate.

`python -m tests.benchmarks.callers URL` reads a line of tokens, then `on` and `off`, from standard input.
After `on` it answers once all streams are open, after `off` with what happened since then, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx

STREAMS = 200  # half of them of a single job each
PER_SECOND = 50
LISTED = 50  # the newest jobs, one of which is asked for
OPENING = 30.0  # seconds that the streams may take
SPEC = {"prompt": "a white lighthouse by the sea at dawn", "model": "demo", "width": 128, "height": 128}

# One second of requests, spread over it. {} is a job that is finished.
MIX = (
    ["/v1/jobs/{}"] * 15
    + ["/v1/jobs?limit=20"] * 8
    + ["/v1/jobs/{}/image"] * 8
    + ["/v1/jobs/{}/sidecar"] * 5
    + ["/thumbnails/{}"] * 4
    + ["/v1/workers"] * 3
    + ["/"] * 3
    + ["/gallery", "/pictures/{}", "/v1/lanes", "/v1/jobs"]  # the last is a POST
)
ORDER = [MIX[n * 7 % len(MIX)] for n in range(len(MIX))]  # 7 and 50 have no common divisor


class Callers:
    """What calls while it is on."""

    def __init__(self, url: str, tokens: list[str]) -> None:
        self._where = urlsplit(url)
        self._streams, self._requests = ({"Authorization": f"Bearer {one}"} for one in tokens)
        self._url = url
        self._tasks: list[asyncio.Task[None]] = []
        self._open = 0
        self._events: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._took: list[float] = []
        self._waiting: list[str] = []  # jobs, of which each is streamed once
        self._finished: list[str] = []

    async def on(self) -> dict[str, Any]:
        """Begin, and count from where all is open."""
        began = time.perf_counter()
        half = STREAMS // 2
        self._waiting = []  # those of the last time have ended
        self._tasks = [asyncio.create_task(self._stream(of_job=n < half)) for n in range(STREAMS)]
        self._tasks.append(asyncio.create_task(self._request()))
        while self._open < STREAMS and time.perf_counter() - began < OPENING:
            await asyncio.sleep(0.05)
        self._events, self._answers, self._took = Counter(), Counter(), []
        return {"open": self._open, "seconds": time.perf_counter() - began}

    async def off(self) -> dict[str, Any]:
        """End, and tell."""
        is_open = self._open
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        took = sorted(self._took) or [0.0]
        return {
            "open": is_open,
            "events": sum(self._events.values()),
            "answers": self._answers,
            "p50": statistics.median(took),
            "p99": took[int(len(took) * 0.99)],
        }

    async def _stream(self, *, of_job: bool) -> None:
        """One that is always open."""
        while True:
            path = "/v1/events"
            if of_job:
                if not self._waiting:
                    await asyncio.sleep(0.25)
                    continue
                path = f"/v1/jobs/{self._waiting.pop(0)}/events"
            with suppress(OSError):
                await self._read(path)

    async def _read(self, path: str) -> None:
        reader, writer = await asyncio.open_connection(self._where.hostname, self._where.port)
        head = [f"GET {path} HTTP/1.1", f"Host: {self._where.netloc}", "Connection: close"]
        head += [f"{name}: {value}" for name, value in self._streams.items()]
        try:
            writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
            begun = await reader.readline()
            if b" 200 " not in begun:
                self._answers[f"stream {begun[9:12].decode()}"] += 1
                await asyncio.sleep(1)
                return
            self._open += 1
            try:
                while part := await reader.read(65536):
                    self._events["all"] += part.count(b"event: ")
            finally:
                self._open -= 1
        finally:
            writer.close()

    async def _request(self) -> None:
        limits = httpx.Limits(max_connections=100)
        async with (
            httpx.AsyncClient(
                base_url=self._url, headers=self._requests, limits=limits, timeout=30
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            await self._look(client)
            group.create_task(self._look_again(client))
            began = time.perf_counter()
            for n in count():
                await asyncio.sleep(began + n / PER_SECOND - time.perf_counter())
                path = ORDER[n % len(ORDER)]
                if "{}" not in path:
                    group.create_task(self._ask(client, path))
                elif self._finished:
                    group.create_task(self._ask(client, path.format(self._finished[n % len(self._finished)])))

    async def _look_again(self, client: httpx.AsyncClient) -> None:
        while True:
            await asyncio.sleep(10)
            await self._look(client)

    async def _look(self, client: httpx.AsyncClient) -> None:
        """Which jobs there are."""
        for state in ("queued", "finished"):
            answer = await client.get("/v1/jobs", params={"state": state, "limit": 2 * LISTED})
            if answer.status_code == 200:
                found = [one["id"] for one in answer.json()["jobs"]]
                if state == "queued":
                    self._waiting = found
                else:
                    self._finished = found[:LISTED]

    async def _ask(self, client: httpx.AsyncClient, path: str) -> None:
        began = time.perf_counter()
        try:
            if path == "/v1/jobs":
                answer = await client.post(path, json=SPEC)
            else:
                accept = "text/html" if not path.startswith("/v1") else "*/*"
                answer = await client.get(path, headers={"Accept": accept})
            self._answers[str(answer.status_code)] += 1
        except httpx.HTTPError as error:
            self._answers[type(error).__name__] += 1
        self._took.append((time.perf_counter() - began) * 1000)


async def main() -> None:
    """As the module says."""
    tokens = (await asyncio.to_thread(sys.stdin.readline)).split()
    callers = Callers(sys.argv[1], tokens)
    while line := await asyncio.to_thread(sys.stdin.readline):
        told = await (callers.on() if line.strip() == "on" else callers.off())
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
