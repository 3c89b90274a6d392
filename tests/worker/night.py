"""A night by the clock of a test: servers' scripts, producers and workers read the same, and nobody waits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from importlib.resources.abc import Traversable
from typing import Any, Self

import pytest

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.jobs.batches import outlook, sending
from pixelkiln.jobs.queue import queue, redis_queue, scripts
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.deadlines import Deadlines

NOW = "test:now"  # seconds since 1970, as scripts read it
STEPS = 4
SIDE = 480
AMOUNT = SIDE * SIDE * STEPS  # of a job of `rows`; a multiple of 3,600


def rows(count: int, **fields: Any) -> list[Any]:
    small = {"model": "demo", "width": SIDE, "height": SIDE, "steps": STEPS, **fields}
    return [{"prompt": f"fox {n}", **small} for n in range(count)]


class Clock(datetime):
    """Stands in for datetime where the time is asked for."""

    moment = datetime(2026, 11, 26, 12, tzinfo=UTC)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.moment.astimezone(tz)  # type: ignore[return-value]


class Night:
    """A farm of one worker, which takes as long as it says, at a moment that the test sets."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.model_copy(update={"zone": "UTC"})
        self.kiln = Kiln(self.settings)
        self.claims = Claims(self.kiln.redis, "mac-1")
        self.deadlines = Deadlines(self.kiln.redis)
        self._events = self.kiln.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._events.subscribe(keys.EVENTS)
        self._events.get_message(timeout=10)  # that it is subscribed
        self.at("2026-11-26T12:00")

    def at(self, moment: str) -> None:
        """It is so late now, in UTC; a worker that lives looks for what is due."""
        Clock.moment = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        self.kiln.redis.set(NOW, f"{Clock.moment.timestamp():.0f}")
        self.claims.look(due=True)

    def worker(self, an_hour: int, hours: str = "") -> None:
        """A worker lives that renders so many jobs in an hour."""
        about = {
            "queues": "demo:bf16",
            "kiln_beat": str(time.time()),
            "kiln_speeds": json.dumps({"demo:bf16": an_hour * AMOUNT // 3600}),
            "kiln_hours": hours,
        }
        self.kiln.redis.hset(keys.WORKER("mac-1"), mapping=about)  # type: ignore[arg-type]
        self.kiln.redis.sadd(keys.WORKERS, keys.WORKER("mac-1"))

    def render(self, most: int = 1) -> list[str]:
        """Take and finish so many jobs, if they can be taken now: their ids."""
        done = []
        for _ in range(most):
            claim = self.claims.take(["demo:bf16"])
            if claim is None:
                break
            assert self.claims.finish(claim, {"png": "p", "sidecar": "s", "sha256": "0"}, 1.0)
            done.append(claim.job_id)
        return done

    def upkeep(self) -> list[dict[str, Any]]:
        """What a worker tells of deadlines when it looks now."""
        self.deadlines.look(Clock.moment.timestamp())
        self.kiln.redis.publish(keys.EVENTS, "last")
        told: list[dict[str, Any]] = []
        while (data := self._events.get_message(timeout=10)["data"]) != b"last":
            told.append(json.loads(data))
        return [one for one in told if one["event"] == "deadline"]


@contextmanager
def a_night(settings: Settings) -> Iterator[Night]:
    """A farm whose Redis, producer and worker go by the test's clock."""
    assembled: Callable[..., str] = scripts.assembled

    def by_the_clock(*sources: Traversable) -> str:
        text = assembled(*sources)
        return text.replace("redis.call('TIME')", f"{{ redis.call('GET', '{NOW}'), '0' }}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "assembled", by_the_clock)
        for module in (outlook, sending, queue, redis_queue):
            patch.setattr(module, "datetime", Clock)
        night = Night(settings)
        yield night
        night._events.close()
        night.kiln.close()
