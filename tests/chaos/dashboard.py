"""A dashboard that keeps looking at the farm through plain RQ, whose reads clean up as they go.

It also reads the server's slow log, which a crash empties.
"""

from __future__ import annotations

import re
import threading

import redis
from rq import Queue, Worker

from tests.chaos.farm import Farm


class Dashboard(threading.Thread):
    """Reads every queue's registries, four times a second, until told to stop."""

    def __init__(self, farm: Farm) -> None:
        super().__init__(name="dashboard", daemon=True)
        self._farm = farm
        self._over = threading.Event()
        self.looks = 0
        self.longest: dict[str, float] = {}  # script -> ms of its longest call

    def run(self) -> None:
        """Look."""
        while not self._over.wait(0.25):
            try:
                with redis.Redis.from_url(self._farm.valkey.url, socket_timeout=3) as direct:
                    self._look(direct)
            except (redis.RedisError, OSError):
                continue

    def stop(self) -> None:
        """Stop looking."""
        self._over.set()
        self.join()

    def _look(self, connection: redis.Redis) -> None:
        for queue in Queue.all(connection=connection, serializer="json"):
            for registry in (
                queue.started_job_registry,
                queue.finished_job_registry,
                queue.failed_job_registry,
                queue.deferred_job_registry,
                queue.scheduled_job_registry,
                queue.canceled_job_registry,
            ):
                assert registry.count >= 0
            assert queue.intermediate_queue is not None
        Worker.all(connection=connection)
        connection.config_set("slowlog-log-slower-than", 2000)  # microseconds
        for entry in connection.slowlog_get(128):
            if name := re.search(rb'"operation": ?"([a-z]+)"', entry["command"]):
                word = name[1].decode()
                self.longest[word] = max(self.longest.get(word, 0.0), entry["duration"] / 1000)
        self.looks += 1
