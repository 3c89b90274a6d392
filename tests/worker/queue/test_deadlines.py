"""Following deadlines: by one worker, a bounded number at a look, whatever producers wrote."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from redis import Redis

from pixelkiln.jobs import Settings, keys
from pixelkiln.jobs.batches.windows import zone_of
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue import deadlines as module
from pixelkiln.worker.queue import heartbeat
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.deadlines import Deadlines
from pixelkiln.worker.queue.heartbeat import Heartbeat
from tests.waiting import until
from tests.worker.night import Night, a_night, rows

MORNING = datetime(2026, 11, 27, 7, 30, tzinfo=zone_of("UTC"))
KEY = keys.BATCH("default", "night")


@pytest.fixture
def night(settings: Settings) -> Iterator[Night]:
    with a_night(settings) as found:
        yield found


def told(night: Night, name: str = "night") -> dict[str, str]:
    """What lies beside a batch's manifest."""
    found: Any = night.kiln.redis.hgetall(keys.BATCH("default", name))
    texts = {
        key.decode(): value.decode("utf-8", "replace") for key, value in found.items() if len(value) < 999
    }
    return {one: texts[one] for one in ("deadline", "fits", "late", "outlook", "warned") if one in texts}


def test_what_is_foreseen_lies_beside_the_manifest(night: Night) -> None:
    night.worker(an_hour=1)
    night.at("2026-11-26T21:00")
    night.kiln.batch(rows(12), name="night", deadline=MORNING)
    assert told(night) == {}
    night.upkeep()
    assert told(night) == {
        "deadline": "2026-11-27T07:30:00+00:00",
        "fits": "no",
        "late": "5400",
        "outlook": "not ready by the deadline Fri 07:30: 10 of 12 are by then, all at Fri 09:00",
        "warned": "1",
    }
    assert int(night.kiln.redis.ttl(KEY)) > 0
    assert len(night.kiln.open_batch("night").entries) == 12


def test_another_deadline_takes_its_place_and_is_told_anew(night: Night) -> None:
    night.worker(an_hour=1)
    night.at("2026-11-26T21:00")
    night.kiln.batch(rows(12), name="night", deadline=MORNING)
    assert [one["fits"] for one in night.upkeep()] == [False]
    night.kiln.batch(rows(12), name="night", deadline=MORNING - timedelta(hours=1))
    assert [one["deadline"] for one in night.upkeep()] == ["2026-11-27T06:30:00+00:00"]
    night.kiln.batch(rows(12), name="night", deadline=MORNING + timedelta(hours=2))
    assert night.upkeep() == []
    assert told(night)["fits"] == "yes"
    night.kiln.batch(rows(12), name="night")  # which leaves it
    assert night.kiln.open_batch("night").manifest.options["deadline"] == "2026-11-27T09:30:00+00:00"


def test_a_worker_that_takes_over_tells_nothing_twice(night: Night) -> None:
    night.worker(an_hour=1)
    night.at("2026-11-26T23:00")
    night.kiln.batch(rows(12), name="night", deadline=MORNING)
    assert len(night.upkeep()) == 1
    night.deadlines = Deadlines(night.kiln.redis)
    night.at("2026-11-26T23:10")
    assert night.upkeep() == []


def test_what_cannot_be_told_is_no_news(night: Night) -> None:
    night.at("2026-11-26T21:00")
    night.kiln.batch(rows(1), name="night", deadline=MORNING)
    assert night.upkeep() == []
    assert told(night)["fits"] == "unknown"
    assert told(night)["outlook"].endswith("cannot be told: no worker serves demo:bf16")


def test_failed_ones_are_named_and_what_ended_without_them_is_late(night: Night) -> None:
    night.worker(an_hour=1)
    night.at("2026-11-26T21:00")
    night.kiln.batch(rows(2), name="night", deadline=MORNING)
    for left in (1, 0):
        claim = night.claims.take(["demo:bf16"])
        assert claim is not None
        night.claims.fail(claim, "no")
        night.at(f"2026-11-26T21:0{9 - left}")
        news = night.upkeep()
        assert told(night)["outlook"].endswith(f"{2 - left} failed")
        assert len(news) == (left == 0)
    night.at("2026-11-27T07:30")
    assert [one["over"] for one in night.upkeep()] == [True]


def test_what_redis_forgot_of_an_older_batch_is_not_missed(night: Night) -> None:
    """A worker does not ask the bucket; of a young batch it is sure that such jobs were never sent."""
    night.worker(an_hour=1)
    batch = night.kiln.batch(rows(2), name="night", deadline=MORNING + timedelta(days=9))
    night.render()
    night.kiln.redis.delete(keys.JOB(batch.ids[0]))
    night.upkeep()
    assert told(night)["outlook"].endswith("; without 1 never sent")
    night.at("2026-11-28T12:00")
    night.upkeep()
    assert "without" not in told(night)["outlook"]
    night.render()
    night.at("2026-12-06T07:30")
    assert night.upkeep() == []


def test_looks_go_round(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 4 jobs a look: two batches of two, then the others, the biggest in its turn; none starves."""
    night.worker(an_hour=100)
    for name, count in (("a", 2), ("b", 2), ("c", 4), ("d", 1)):
        night.kiln.batch(rows(count), name=name, deadline=MORNING)
    monkeypatch.setattr(module, "JOBS", 4)
    seen = []
    for minute in range(3):
        night.at(f"2026-11-26T12:0{minute + 1}")
        night.upkeep()
        seen.append([name for name in "abcd" if told(night, name)])
    assert seen == [["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"]]
    monkeypatch.setattr(module, "MOST", 1)
    before: Any = night.kiln.redis.zrange(keys.DEADLINES, 0, -1, withscores=True)
    night.at("2026-11-26T13:00")
    night.upkeep()
    after: Any = night.kiln.redis.zrange(keys.DEADLINES, 0, -1, withscores=True)
    assert len(set(before) - set(after)) == 1


def test_a_batch_that_is_too_large_is_left_in_words(
    night: Night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    night.kiln.batch(rows(3), name="night", deadline=MORNING)
    monkeypatch.setattr(module, "JOBS", 2)
    assert night.upkeep() == []
    assert "batch default:night: its deadline is not followed: it has more than 2 pictures" in caplog.text
    assert night.kiln.redis.exists(keys.DEADLINES) == 0


Forge = Callable[[Redis], object]


@pytest.mark.parametrize(
    "forge",
    [
        lambda r: r.hset(KEY, "manifest", b"\x00\xff"),
        lambda r: r.hset(KEY, mapping={"revision": 9, "manifest": zlib.compress(b"[" * 2**25)}),
        lambda r: r.hset(KEY, mapping={"revision": 9, "manifest": b"x" * (module.PACKED + 1)}),
        lambda r: (r.delete(KEY), r.set(KEY, "x")),
        lambda r: r.hset(KEY, "deadline", b"\xff" * 99),
        lambda r: r.zadd(keys.DEADLINES, {b"\xff\xfe": 1, b"": 1, b"default:gone": 1}),
    ],
)
def test_what_producers_write_there_harms_nobody(night: Night, forge: Forge) -> None:
    night.worker(an_hour=100)
    night.kiln.batch(rows(1), name="night", deadline=MORNING)
    night.kiln.batch(rows(1), name="other", deadline=MORNING)
    forge(night.kiln.redis)
    night.upkeep()
    assert told(night, "other")["fits"] == "yes"
    left: Any = night.kiln.redis.zrange(keys.DEADLINES, 0, -1)
    assert set(left) <= {b"default:night", b"default:other"}


def test_a_key_of_another_type_is_deleted(night: Night) -> None:
    night.kiln.redis.set(keys.DEADLINES, "x")
    assert night.upkeep() == []
    assert night.kiln.redis.exists(keys.DEADLINES) == 0


def test_a_clock_that_was_set_back_keeps_no_batch_waiting(night: Night) -> None:
    night.worker(an_hour=100)
    night.kiln.batch(rows(1), name="night", deadline=MORNING)
    night.kiln.redis.zadd(keys.DEADLINES, {"default:night": MORNING.timestamp()})
    night.upkeep()
    assert told(night)["fits"] == "yes"


def test_a_name_that_comes_before_its_batch_waits_for_it(night: Night) -> None:
    night.worker(an_hour=100)
    night.kiln.queue.expect("default", "night")
    night.upkeep()
    night.kiln.batch(rows(1), name="night", deadline=MORNING)
    night.upkeep()
    assert told(night)["fits"] == "yes"
    night.kiln.redis.delete(KEY)
    night.at("2026-11-26T13:00")
    night.upkeep()
    assert night.kiln.redis.exists(keys.DEADLINES) == 0


def test_the_worker_whose_turn_the_upkeep_is_follows_them(
    night: Night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    monkeypatch.setattr(heartbeat, "PUBLISH", 0.01)
    monkeypatch.setattr(heartbeat, "GRACE", 0.0)
    caplog.set_level(logging.INFO)
    night.worker(an_hour=1)
    night.kiln.batch(rows(100), name="night", deadline=datetime(2026, 11, 26, 12, 30, tzinfo=MORNING.tzinfo))
    beats = [Heartbeat(Claims(night.kiln.redis, name), {}, Watchdog(900.0)) for name in ("one", "two")]
    for beat in beats:
        beat.start()
    try:
        until(lambda: told(night), "a worker has looked at the batch", 60)
    finally:
        for beat in beats:
            beat.stop()
    assert caplog.text.count("batch default:night: ") == 1
