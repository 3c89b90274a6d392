"""What a server tells those who watch it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from pixelkiln import Kiln
from pixelkiln.jobs import keys
from pixelkiln.jobs.queue.farm import WorkerStatus
from pixelkiln.jobs.web.numbers import does
from pixelkiln.jobs.web.once import Once
from pixelkiln.testing import FakeKiln
from tests.jobs.web.conftest import Door
from tests.jobs.web.test_jobs import FOX
from tests.waiting import until
from tests.worker.watched import parsed, total

KIND = {"model": "demo", "quantization": "bf16"}


def test_the_farm_in_numbers(real: Door, kiln: Kiln) -> None:
    one, admin = real("one"), real("admin")
    for prompt in ("a secret fox", "a hare"):
        assert one.post("/v1/jobs", json={**FOX, "prompt": prompt}).status_code == 201
    held = kiln.batch([{**FOX, "prompt": "held"}], name="night")
    held.pause()
    kiln.redis.sadd(keys.QUEUES, "rq:queue:kiln:made-up:x:urgent:y")
    kiln.redis.rpush("rq:queue:kiln:made-up:x:urgent:y", "1", "2", "3")
    kiln.redis.hset(keys.JOB("1"), "enqueued_at", "never")
    kiln.redis.rpush(keys.QUEUE("kiln:demo:bf16>123:low:z"), "4")
    kiln.redis.sadd(keys.QUEUES, "rq:queue:kiln:demo:bf16>123:low:z")
    kiln.redis.hset(keys.JOB("4"), "enqueued_at", "2000-01-01T00:00:00.000000Z")
    kiln.redis.zadd(keys.DEADLINES, {"default:night": 1, "default:noon": 2})
    kiln.redis.hset(keys.BATCH("default", "night"), "fits", "no")
    kiln.redis.hset(keys.TELLING, mapping={"hook-1:told": 5, "hook-2:failed": 2, "hook-1:failed": 1})
    answer = admin.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    numbers = parsed(answer.text)
    assert total(numbers, "kiln_lane_jobs", **KIND, priority="normal") == 2
    assert total(numbers, "kiln_lane_jobs", **KIND, priority="low") == 1
    other = {"model": "other", "quantization": "other", "priority": "other"}
    assert total(numbers, "kiln_lane_jobs", **other) == 3
    assert total(numbers, "kiln_lane_oldest_seconds", **other) == 0
    assert 0 <= total(numbers, "kiln_lane_oldest_seconds", **KIND, priority="normal") < 60
    assert total(numbers, "kiln_lane_oldest_seconds", **KIND, priority="low") > 800_000_000
    assert total(numbers, "kiln_farm_workers") == 0
    assert (total(numbers, "kiln_batches_due"), total(numbers, "kiln_batches_late")) == (2, 1)
    told = [total(numbers, "kiln_webhooks_total", outcome=one) for one in ("told", "failed", "dropped")]
    assert told == [5, 3, 0]
    assert total(numbers, "kiln_redis_up") == total(numbers, "kiln_storage_up") == 1
    for secret in ("secret", "made-up", "night", "hook-", "urgent"):
        assert secret not in answer.text


def test_a_process_whose_threads_all_wait_lives(local: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(Once, "get", lambda self: answers.wait(60) and ())
    with ThreadPoolExecutor(50) as threads, httpx.Client(base_url=local.base_url, timeout=60) as many:
        asked = [threads.submit(many.get, "/readyz") for _ in range(50)]
        until(lambda: sum(one.running() for one in asked) == 50, "all ask")
        try:
            assert local.get("/healthz", timeout=20).text == "ok\n"
        finally:
            answers.set()


def test_numbers_are_an_admins(door: Door, local: httpx.Client) -> None:
    assert door("one").get("/metrics").status_code == 403
    assert door("one").get("/metrics", headers={"Authorization": ""}).status_code == 401
    assert door("admin").get("/metrics").status_code == 200
    assert local.get("/metrics").status_code == 200
    assert local.get("/metrics", headers={"Host": "rebound.example"}).status_code == 421
    assert "/metrics" not in local.get("/v1/openapi.json").json()["paths"]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered from one question to the next."""
    monkeypatch.setattr("pixelkiln.jobs.web.health.FRESH", 0.0)


def test_whether_it_reaches_its_servers(at_once: None, door: Door, fake: FakeKiln) -> None:
    anybody = {"Authorization": ""}

    def ready() -> tuple[int, str]:
        answer = door("one").get("/readyz", headers=anybody)
        return answer.status_code, answer.text

    queue, bucket = (
        "the queue cannot be reached; try again later",
        "the bucket cannot be reached; try again later",
    )
    assert ready() == (200, "ready\n")
    with fake.away(bucket=False):
        assert ready() == (503, f"{queue}\n")
        assert door("one").get("/healthz", headers=anybody).text == "ok\n"
        numbers = parsed(door("admin").get("/metrics").text)
        assert total(numbers, "kiln_redis_up") == 0
        assert total(numbers, "kiln_storage_up") == 1
        assert "kiln_lane_jobs" not in numbers
    with fake.away(redis=False):
        assert ready() == (503, f"{bucket}\n")
    with fake.away():
        assert ready() == (503, f"{queue}; {bucket}\n")
    assert ready() == (200, "ready\n")


def test_one_looks_for_all_who_ask() -> None:
    """However many ask while Redis hangs, one thread waits for it."""
    now, looks, began, may = [0.0], [], threading.Event(), threading.Event()

    def look() -> int:
        looks.append(now[0])
        began.set()
        assert may.wait(30)
        return len(looks)

    once = Once(look, 5.0, 30.0, lambda: now[0])
    first = threading.Thread(target=once.get)
    first.start()
    assert began.wait(30)
    assert once.get() is None
    may.set()
    first.join()
    assert (once.get(), len(looks)) == (1, 1)
    now[0] = 6.0
    may.clear()
    began.clear()
    second = threading.Thread(target=once.get)
    second.start()
    assert began.wait(30)
    assert once.get() == 1
    now[0] = 31.0
    assert once.get() is None
    may.set()
    second.join()
    assert (once.get(), len(looks)) == (2, 2)


def test_what_fails_lets_the_next_one_look() -> None:
    answers: list[Callable[[], int]] = [lambda: 1 // 0, lambda: 2]
    once = Once(lambda: answers.pop(0)(), 5.0, 30.0)
    with pytest.raises(ZeroDivisionError):
        once.get()
    assert once.get() == 2


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("idle", "idle"),
        ("idle; 3 to be stored", "idle"),
        ("rendering fox is paused", "rendering"),
        ("takes no jobs: the farm is paused", "paused"),
        ("takes no jobs: the spool's disk is nearly full (x)", "blocked"),
        ("sleeps until 22:00", "asleep"),
        ("starting", "other"),
    ],
)
def test_workers_are_counted_by_what_they_do(state: str, word: str) -> None:
    assert does(WorkerStatus("mac", state, age=1.0)) == word
    assert does(WorkerStatus("mac", state, age=16.0)) == "gone"
