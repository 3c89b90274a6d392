"""Where jobs stand, changed by scripts over records that strangers may have written."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.queue.queue import Standing

LANE = "kiln:demo:bf16:normal:default"
HIGH = "kiln:demo:bf16:high:default"


@pytest.fixture
def ids(kiln: Kiln) -> list[str]:
    rows = [{"prompt": f"fox {n}", "model": "demo"} for n in range(3)]
    return [job.id for job in kiln.submit_many(rows, ids=["a", "b", "c"])]  # type: ignore[arg-type]


def lane(kiln: Kiln, name: str = LANE) -> list[bytes]:
    found: list[bytes] = kiln.redis.lrange(keys.QUEUE(name), 0, -1)  # type: ignore[assignment]
    return found


def test_held_jobs_are_out_of_their_lane_until_they_are_let_go(kiln: Kiln, ids: list[str]) -> None:
    kiln.redis.delete(keys.MAIL)
    assert kiln.queue.hold(["a", "c", "none"], "default") == {"a": "queued", "c": "queued", "none": "unknown"}
    assert lane(kiln) == [b"b"]
    assert kiln.redis.zscore(keys.DEFERRED(LANE), "a") == float("inf")
    assert kiln.redis.lrange(keys.MAIL, 0, -1) == [LANE.encode()]  # one hint is enough
    assert kiln.queue.hold(["a"], "default") == {"a": "held"}
    assert kiln.queue.standing(["a", "b", "x"]) == {"a": Standing("held"), "b": Standing("queued"), "x": None}
    assert kiln.queue.free(["a", "b"], "other") == {"a": "foreign", "b": "foreign"}
    assert kiln.queue.free(["a", "b"], "") == {"a": "held", "b": "queued"}
    assert lane(kiln) == [b"b", b"a"]
    assert not kiln.redis.hexists(keys.JOB("a"), "kiln_held")
    assert kiln.queue.cancel(["c"], "default") == {"c": "queued"}
    assert kiln.redis.zcard(keys.DEFERRED(LANE)) == 0


def test_what_waits_for_a_time_waits_for_it_again_when_it_is_let_go(kiln: Kiln, ids: list[str]) -> None:
    kiln.submit(prompt="a fox", model="demo", id="later", not_before=timedelta(hours=1))
    due = kiln.redis.zscore(keys.SCHEDULED(LANE), "later")
    assert kiln.queue.hold(["later"], "default") == {"later": "queued"}
    assert kiln.redis.zcard(keys.SCHEDULED(LANE)) == 0
    assert kiln.queue.standing(["later"]) == {"later": Standing("held")}
    assert kiln.queue.move(["later"], "default", "high") == {"later": "held"}
    assert kiln.queue.free(["later"], "default") == {"later": "held"}
    assert kiln.redis.zscore(keys.SCHEDULED(HIGH), "later") == pytest.approx(due)
    assert lane(kiln, HIGH) == []
    assert kiln.queue.move(["later"], "default", "normal") == {"later": "queued"}
    assert kiln.redis.zscore(keys.SCHEDULED(LANE), "later") == pytest.approx(due)
    assert kiln.status("later").not_before


def test_a_paused_batch_keeps_the_time_that_its_rows_wait_for(kiln: Kiln) -> None:
    batch = kiln.batch([{"prompt": "a fox", "model": "demo"}], name="night")
    batch.pause()
    rows = [{"prompt": one, "model": "demo"} for one in ("a fox", "a hare")]
    batch = kiln.batch(rows, name="night", not_before=timedelta(hours=1))  # type: ignore[arg-type]
    assert batch.resume() == 2
    assert lane(kiln) == [batch.ids[0].encode()]
    assert kiln.redis.zrange(keys.SCHEDULED(LANE), 0, -1) == [batch.ids[1].encode()]


def test_what_is_held_or_waits_for_a_time_is_listed_by_when_it_was_sent(kiln: Kiln) -> None:
    sent: list[str] = []
    for number, name in enumerate(("d", "a", "e", "b", "f", "c")):  # in neither registry's order
        later = timedelta(hours=9 - number) if number % 2 else None
        sent.append(kiln.submit(prompt="a fox", model="demo", id=name, not_before=later).id)
    kiln.queue.hold(["d", "e", "f"], "default")
    assert [job.id for job in kiln.jobs()] == sent[::-1]
    page, mark = kiln.page(limit=4)
    rest, _ = kiln.page(limit=4, before=mark)
    assert [job.id for job in (*page, *rest)] == sent[::-1]
    assert kiln.jobs(state="queued", since=timedelta(seconds=-2)) == []


def test_jobs_that_wait_for_another_are_not_held(kiln: Kiln, ids: list[str]) -> None:
    kiln.redis.hset(keys.JOB("a"), "status", "deferred")
    assert kiln.queue.hold(["a"], "default") == {"a": "deferred"}
    assert kiln.queue.free(["a"], "default") == {"a": "deferred"}


def test_a_job_left_to_larger_workers_goes_home(kiln: Kiln, ids: list[str]) -> None:
    left = "kiln:demo:bf16>17179869184:normal:default"
    kiln.redis.lrem(keys.QUEUE(LANE), 0, "a")
    kiln.redis.rpush(keys.QUEUE(left), "a")
    kiln.redis.hset(keys.JOB("a"), "origin", left)
    assert kiln.queue.hold(["a"], "default") == {"a": "queued"}
    assert kiln.redis.exists(keys.QUEUE(left)) == 0
    assert kiln.queue.move(["a"], "default", "high") == {"a": "held"}
    assert kiln.queue.free(["a"], "default") == {"a": "held"}
    assert lane(kiln, HIGH) == [b"a"]


def test_another_priority_is_in_lane_and_spec(kiln: Kiln, ids: list[str]) -> None:
    assert kiln.queue.move(["a", "b", "none"], "default", "high") == {
        "a": "queued",
        "b": "queued",
        "none": "unknown",
    }
    assert (lane(kiln), lane(kiln, HIGH)) == ([b"c"], [b"a", b"b"])
    (spec,) = kiln.queue.specs(["a"]).values()
    assert spec is not None
    assert (spec.priority, spec.prompt) == ("high", "fox 0")
    assert kiln.redis.sismember(keys.QUEUES, keys.QUEUE(HIGH))
    kiln.redis.hset(keys.JOB("c"), "data", b"nonsense")
    assert kiln.queue.move(["c"], "default", "low") == {"c": "unknown"}
    assert lane(kiln) == [b"c"]


def test_a_retry_leaves_nothing_of_the_end_but_the_tries(kiln: Kiln, ids: list[str]) -> None:
    ended = {
        "status": "failed",
        "ended_at": "2026-11-26T03:00:00.0Z",
        "kiln_attempts": "2",
        "kiln_error": "x",
    }
    kiln.redis.lrem(keys.QUEUE(LANE), 0, "a")
    kiln.redis.hset(keys.JOB("a"), mapping=ended)
    kiln.redis.zadd(keys.FAILED(LANE), {"a": 2e9})
    kiln.redis.expire(keys.JOB("a"), 100)
    assert kiln.queue.retry(["a", "b"], "default", again=False) == {"a": "failed", "b": "queued"}
    assert lane(kiln) == [b"b", b"c", b"a"]
    assert kiln.redis.ttl(keys.JOB("a")) == -1
    assert kiln.redis.zcard(keys.FAILED(LANE)) == 0
    status = kiln.status("a")
    assert (status.state, status.attempt, status.error, status.ended_at) == ("queued", 2, "", "")
    assert not kiln.redis.hexists(keys.JOB("a"), "kiln_error")
    assert kiln.queue.place("a") == (3, 3)
    kiln.redis.hset(keys.JOB("b"), "status", "finished")
    assert kiln.queue.retry(["b"], "default", again=False) == {"b": "finished"}
    assert kiln.queue.retry(["b"], "default", again=True) == {"b": "finished"}
    assert kiln.status("b").state == "queued"


def test_strangers_keys_cost_nobody_anything(kiln: Kiln, ids: list[str]) -> None:
    for key in (
        keys.DEFERRED(LANE),
        keys.FAILED(LANE),
        keys.BATCHES("default"),
        keys.BATCH("default", "night"),
    ):
        kiln.redis.set(key, "x")
    kiln.redis.set(keys.JOB("text"), "x")
    kiln.redis.hset(keys.JOB("b"), mapping={"status": "nonsense", "started_at": "a b", "ended_at": "x" * 99})
    kiln.redis.hset(keys.JOB("odd"), mapping={"origin": "another:queue", "status": "failed"})
    kiln.redis.sadd(keys.QUEUES, b"rq:queue:kiln:\xff:bf16:normal:default")
    assert kiln.queue.standing(["text", "b"]) == {"text": None, "b": Standing("queued")}
    assert kiln.queue.retry(["text", "odd"], "", again=True) == {"text": "unknown", "odd": "unknown"}
    assert kiln.queue.hold(["a"], "default") == {"a": "queued"}
    assert {status.id for status in kiln.jobs()} == {"a", "b", "c"}
    assert kiln.queue.batches("default") == {}
    assert kiln.books.find("night") is None
    kiln.redis.hset(keys.BATCH("default", "night"), "revision", "x")
    batch = kiln.batch([{"prompt": "a fox", "model": "demo"}], name="night")
    assert kiln.open_batch("night").ids == batch.ids
    assert list(kiln.queue.batches("default")) == ["night"]


def test_the_newest_are_found_among_many_lanes(kiln: Kiln) -> None:
    with kiln.redis.pipeline() as pipe:
        for n in range(300):
            name = f"kiln:demo:bf16:normal:client-{n % 150}"
            pipe.sadd(keys.QUEUES, keys.QUEUE(name))
            at = f"2026-11-26T00:00:{n % 60:02}.{n:06}Z"
            pipe.hset(keys.JOB(f"j{n}"), mapping={"status": "finished", "origin": name, "ended_at": at})
            pipe.zadd(keys.FINISHED(name), {f"j{n}": 1e9 + n % 60})
        pipe.execute()
    found = [int(status.id[1:]) for status in kiln.jobs(client=None, limit=70)]
    assert found == sorted(range(300), key=lambda n: (n % 60, n), reverse=True)[:70]
    assert [status.id for status in kiln.jobs(client="client-7")] == ["j157", "j7"]


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one second"])
def test_jobs_by_pages_are_each_there_once(kiln: Kiln, together: bool) -> None:
    lanes = [{"prompt": "a fox", "model": "demo", "priority": p} for p in ("normal", "high")]
    ids = [job.id for job in kiln.submit_many(lanes * 160)]  # type: ignore[arg-type]
    if together:  # as producers of other languages write it
        for job_id in ids:
            kiln.redis.hset(keys.JOB(job_id), "enqueued_at", "2026-01-31T23:59:59Z")
    found, last = kiln.page(limit=30)
    pages = [[job.id for job in found]]
    while last is not None:
        found, last = kiln.page(limit=30, before=last)
        pages.append([job.id for job in found])
    assert len(pages) == 11
    assert sorted(one for page in pages for one in page) == sorted(ids)
    if not together:
        assert [one for page in pages for one in page] == ids[::-1]


def test_pages_have_each_of_those_that_ended_in_one_second(kiln: Kiln) -> None:
    """RQ's registries are in the order of whole seconds: within one, ids come in any order of moments."""
    ids = [f"{n * 7919 % 1000:03}" for n in range(400)]
    with kiln.redis.pipeline() as pipe:
        pipe.sadd(keys.QUEUES, keys.QUEUE(LANE))
        for n, job_id in enumerate(ids):
            at = f"2026-11-26T00:00:{n // 150:02}.{n % 150 * 6666:06}Z"
            pipe.hset(keys.JOB(job_id), mapping={"status": "finished", "origin": LANE, "ended_at": at})
            settled = n // 150 + (n % 150 > 140)  # in the next second, some of them
            pipe.zadd(keys.FINISHED(LANE), {job_id: 1e9 + settled})
        pipe.execute()
    found, last = kiln.page(limit=60)
    pages = [status.id for status in found]
    while last is not None:
        found, last = kiln.page(limit=60, before=last)
        pages += [status.id for status in found]
    assert pages == ids[::-1]


def test_what_stands_in_anothers_lane_is_no_job_of_that_client(kiln: Kiln, ids: list[str]) -> None:
    """Any producer may list any job anywhere: whose it is its own record says."""
    theirs = LANE.replace("default", "other")
    kiln.redis.sadd(keys.QUEUES, keys.QUEUE(theirs))
    kiln.redis.rpush(keys.QUEUE(theirs), "b", "c")
    other = kiln.as_client("other")
    own = other.submit(prompt="an owl", model="demo", id="own")
    kiln.redis.rpush(keys.QUEUE(theirs), "a")
    assert other.page(limit=1) == ([other.status(own.id)], other.marks()[0])  # the others take no place
    assert [job_id for _, job_id in other.marks()] == ["own"]
    assert {job.id for job in kiln.jobs(client=None)} == {"a", "b", "c", "own"}
    assert kiln.queue.statuses(["a", "own"], "other") == {"a": None, "own": other.status("own")}
    assert kiln.queue.standing(["a", "own", "x"], "other") == {
        "a": None,
        "own": Standing("queued"),
        "x": None,
    }
