"""Submitting: what is accepted is there once, whatever happens to the reply."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.exceptions import NoPermissionError
from rq import Queue
from rq.group import Group
from rq.job import JobStatus as RQStatus
from rq.serializers import JSONSerializer

from pixelkiln.jobs import Kiln, NoSuchJobError, NotReadyError, RenderSpec, Settings, SpecError, UsageError
from pixelkiln.jobs.queue.door import CHUNK
from pixelkiln.jobs.queue.record import FUNCTION, RenderJob
from pixelkiln.worker.queue.claims import Claims
from tests.waiting import until
from tests.wire import Proxy

Rewire = Callable[..., tuple[Settings, Proxy]]
LANE = "kiln:demo:bf16:normal:default"


def spec(prompt: str = "a fox", **fields: Any) -> dict[str, Any]:
    return {"prompt": prompt, "model": "demo", **fields}


def queued(kiln: Kiln, lane: str = LANE) -> list[str]:
    return [item.decode() for item in kiln.redis.lrange(f"rq:queue:{lane}", 0, -1)]


def commands(kiln: Kiln) -> int:
    """How many calls of scripts the server has seen since its statistics were reset."""
    stats: Any = kiln.redis.info("commandstats")
    return sum(
        stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval", "script|load")
    )


def test_a_job_is_queued_as_rq_would(kiln: Kiln) -> None:
    job = kiln.submit(prompt="a fox", model="demo", labels={"a": "b"})
    assert job.created
    assert job.spec.seed is not None
    queue = Queue(LANE, connection=kiln.redis, serializer=JSONSerializer, job_class=RenderJob)
    assert queue.job_ids == [job.id]
    (seen,) = queue.jobs
    assert seen.get_status() is RQStatus.QUEUED
    assert seen.func_name == FUNCTION
    assert seen.args == [job.spec.wire()]
    assert seen.enqueued_at is not None
    assert Queue.all(connection=kiln.redis)[0].name == LANE


def test_the_settings_client_is_whose_job_it_is(settings: Settings) -> None:
    kiln = Kiln(settings.model_copy(update={"client": "studio"}))
    assert kiln.submit(**spec()).spec.client == "studio"
    assert kiln.submit(**spec(client="other")).spec.client == "other"
    assert kiln.submit(RenderSpec.parse(spec())).spec.client == "studio"
    assert kiln.submit(RenderSpec.parse(spec(client="default"))).spec.client == "default"
    assert kiln.submit(RenderSpec.parse(spec(client="other"))).spec.client == "other"


def test_order_is_kept(kiln: Kiln) -> None:
    jobs = kiln.submit_many([spec(f"picture {i}") for i in range(CHUNK + 5)])
    assert queued(kiln) == [job.id for job in jobs]
    assert len({job.id for job in jobs}) == CHUNK + 5


def test_many_jobs_are_few_round_trips(kiln: Kiln) -> None:
    whole = spec(quantization="bf16")
    kiln.submit(**whole)  # loads the script
    kiln.redis.config_resetstat()
    kiln.submit_many([whole] * CHUNK)
    assert commands(kiln) == 1
    kiln.submit_many([whole] * (2 * CHUNK + 1))
    assert commands(kiln) == 4
    everything: Any = kiln.redis.info("commandstats")
    from_scripts = {"hset", "sadd", "rpush", "lpush", "ltrim", "exists", "type"}
    outside = {name.removeprefix("cmdstat_") for name in everything} - from_scripts
    assert outside <= {"evalsha", "info", "config|resetstat", "client|setinfo"}


def test_who_serves_is_looked_up_once_for_all_jobs_that_leave_it_out(kiln: Kiln) -> None:
    kiln.submit(**spec())
    kiln.redis.config_resetstat()
    kiln.submit_many([spec() for _ in range(CHUNK)])
    everything: Any = kiln.redis.info("commandstats")
    assert everything["cmdstat_sscan"]["calls"] == everything["cmdstat_time"]["calls"] == 1


def test_no_jobs_are_no_jobs(kiln: Kiln) -> None:
    assert kiln.submit_many([]) == []


def test_a_known_id_is_left_as_it_is(kiln: Kiln) -> None:
    kiln.submit(id="mine", **spec("first"))
    before = kiln.redis.hgetall("rq:job:mine")
    again = kiln.submit(id="mine", **spec("first", priority="high", labels={"a": "b"}))
    assert not again.created
    with pytest.raises(SpecError, match=r"^id: mine was used before, for another picture \(another prompt\)"):
        kiln.submit(id="mine", **spec("second", priority="high"))
    assert kiln.redis.hgetall("rq:job:mine") == before
    assert queued(kiln) == ["mine"]
    assert queued(kiln, "kiln:demo:bf16:high:default") == []


@pytest.mark.parametrize("key", [f"rq:queue:{LANE}", "kiln:bell:demo", "rq:group:night", "rq:groups"])
def test_what_became_another_type_keeps_no_job_out(kiln: Kiln, key: str) -> None:
    kiln.redis.set(key, "text")
    (job,) = kiln.submit_many([spec()], ids=["mine"], batch="night")
    assert job.created
    assert queued(kiln) == ["mine"]
    assert kiln.redis.smembers("rq:group:night") == {b"mine"}


def test_without_a_set_of_queues_nothing_is_half_submitted(kiln: Kiln) -> None:
    kiln.redis.set("rq:queues", "text")
    with pytest.raises(NotReadyError, match=r"answered: rq:queues is a string, not .* delete it"):
        kiln.submit(id="mine", **spec())
    kiln.redis.delete("rq:queues")
    assert kiln.submit(id="mine", **spec()).created


def test_an_id_twice_in_one_call_is_one_job(kiln: Kiln) -> None:
    jobs = kiln.submit_many([spec("first"), spec("second"), spec("first")], ids=["a", "b", "a"])
    assert [job.created for job in jobs] == [True, True, False]
    assert queued(kiln) == ["a", "b"]
    assert RenderJob.fetch("a", connection=kiln.redis).args[0]["prompt"] == "first"


def test_one_bad_spec_keeps_all_out(kiln: Kiln) -> None:
    wanted = [spec() for _ in range(CHUNK + 1)] + [spec(width=100)]
    with pytest.raises(SpecError, match=r"^width: "):
        kiln.submit_many(wanted)
    assert kiln.redis.dbsize() == 0


@pytest.mark.parametrize("ids", [["a/b"], ["ok", ""], [".."]])
def test_one_bad_id_keeps_all_out(kiln: Kiln, ids: list[str]) -> None:
    with pytest.raises(UsageError, match=r"^job id: "):
        kiln.submit_many([spec() for _ in ids], ids=ids)
    assert kiln.redis.dbsize() == 0


@pytest.mark.parametrize("count", [CHUNK - 1, CHUNK + 1, 1, 2 * CHUNK + 1])
def test_ids_must_be_as_many_as_specs(kiln: Kiln, count: int) -> None:
    with pytest.raises(UsageError, match="ids"):
        kiln.submit_many([spec() for _ in range(2 * CHUNK)], ids=[f"id-{i}" for i in range(count)])
    assert kiln.redis.dbsize() == 0


def test_a_batch_is_an_rq_group(kiln: Kiln) -> None:
    jobs = kiln.submit_many([spec() for _ in range(3)], batch="night-1")
    group = Group.fetch("night-1", connection=kiln.redis)
    assert {item.decode() for item in kiln.redis.smembers(group.key)} == {job.id for job in jobs}
    group.cleanup()
    assert kiln.redis.scard(group.key) == 3
    assert [found.name for found in Group.all(kiln.redis)] == ["night-1"]
    assert RenderJob.fetch(jobs[0].id, connection=kiln.redis).group_id == "night-1"
    with pytest.raises(UsageError):
        kiln.submit_many([spec()], batch="a:b")


def test_an_idle_worker_is_rung_for(kiln: Kiln) -> None:
    kiln.submit_many([spec() for _ in range(200)])
    assert 1 <= kiln.redis.llen("kiln:bell:demo") <= 64


def test_a_lost_reply_makes_no_second_job(rewire: Rewire, kiln: Kiln) -> None:
    settings, proxy = rewire("redis")
    far = Kiln(settings)
    far.submit(**spec())  # loads the script
    proxy.lose_reply_to(b"EVALSHA")
    jobs = far.submit_many([spec() for _ in range(5)], batch="b")
    assert proxy.lost == 1
    assert queued(kiln)[1:] == [job.id for job in jobs]
    assert all(job.created for job in jobs)  # their ids were drawn here: nobody else made them
    proxy.lose_reply_to(b"EVALSHA")
    far.submit(id="mine", **spec())
    assert proxy.lost == 2
    assert queued(kiln)[6:] == ["mine"]


def test_redis_away_is_one_line_without_the_password(settings: Settings, rewire: Rewire) -> None:
    settings, proxy = rewire("redis")
    proxy.cut()
    assert settings.redis_url is not None
    password = settings.redis_url.get_secret_value().split("@")[0].rpartition(":")[2]
    for act in (lambda k: k.submit(**spec()), lambda k: k.status("x"), lambda k: k.farm()):
        with pytest.raises(NotReadyError) as caught:
            act(Kiln(settings))
        told = str(caught.value)
        assert told == (
            f"Redis at redis://{proxy.address}/0 is unreachable: it closes the connection without an answer;"
            " see its log, and what stands between"
        )
        assert password not in told


@pytest.mark.parametrize("user", ["", ":wrong-password@"])
def test_a_wrong_password_is_said_to_be_one(settings: Settings, user: str) -> None:
    assert settings.redis_url is not None
    address = settings.redis_url.get_secret_value().rpartition("@")[2]
    wrong = settings.model_copy(update={"redis_url": SecretStr(f"redis://{user}{address}")})
    with pytest.raises(
        NotReadyError, match=f"^Redis at redis://{address} refuses the user or password"
    ) as caught:
        Kiln(wrong).submit(**spec())
    assert "wrong-password" not in str(caught.value)


def test_a_full_redis_says_so(kiln: Kiln) -> None:
    kiln.redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(NotReadyError, match=r"used memory > .maxmemory."):
            kiln.submit(**spec())
    finally:
        kiln.redis.config_set("maxmemory", "0")
    assert kiln.redis.dbsize() == 0


def test_statuses_keep_the_order_and_know_what_is_not_there(kiln: Kiln) -> None:
    kiln.submit_many([spec(), spec()], ids=["b", "a"])
    found = kiln.statuses(["a", "nothing", "b"])
    assert list(found) == ["a", "nothing", "b"]
    assert found["nothing"] is None
    assert found["a"] is not None
    assert found["a"].state == "queued"
    with pytest.raises(NoSuchJobError, match="no job nothing in the queue, nor a picture of it"):
        kiln.status("nothing")
    with pytest.raises(UsageError, match=r"^job id: "):
        kiln.status("no/id")


def test_watching_tells_every_change_and_then_ends(kiln: Kiln) -> None:
    kiln.submit(id="a", **spec())
    changes = iter(
        [
            {"status": "started", "meta": json.dumps({"phase": "loading", "step": 0, "steps": 0})},
            {"meta": json.dumps({"phase": "rendering", "step": 3, "steps": 28})},
            {},
            {"status": "canceled"},
        ]
    )

    def sleep(seconds: float) -> None:
        if change := next(changes):
            kiln.redis.hset("rq:job:a", mapping=change)

    seen = [(one.state, one.phase, one.step) for one in kiln.watch(["a", "a"], sleep=sleep)]
    assert seen == [
        ("queued", None, 0),
        ("started", "loading", 0),
        ("started", "rendering", 3),
        ("cancelled", None, 0),
    ]


def test_watching_waits_an_outage_out(rewire: Rewire, kiln: Kiln) -> None:
    settings, proxy = rewire("redis")
    kiln.submit(id="a", **spec())
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            proxy.cut()
        else:
            kiln.redis.hset("rq:job:a", "status", "canceled")
            proxy.mend()

    assert [one.state for one in Kiln(settings).watch(["a"], sleep=sleep)] == ["queued", "cancelled"]


def test_watching_what_is_not_there_fails(kiln: Kiln) -> None:
    with pytest.raises(NoSuchJobError):
        list(kiln.watch(["nothing"]))


def test_another_applications_job_is_not_cancelled(kiln: Kiln) -> None:
    job = Queue("mail", connection=kiln.redis).enqueue("print", "x")
    assert kiln.cancel([job.id], any_client=True) == {job.id: "unknown"}
    assert kiln.cancel([job.id]) == {job.id: "unknown"}
    assert job.get_status() is RQStatus.QUEUED
    assert queued(kiln, "mail") == [job.id]


@pytest.fixture
def producer(kiln: Kiln, settings: Settings) -> Iterator[Kiln]:
    """A door that may do what deploy/users.acl.example lets a producer do."""
    text = (Path(__file__).parents[2] / "deploy/users.acl.example").read_text()
    (rules,) = (line.split()[2:] for line in text.splitlines() if line.startswith("user producer "))
    rules = [rule.replace("CHANGE-ME", "acl-test") for rule in rules]
    assert settings.redis_url is not None
    address = settings.redis_url.get_secret_value().rpartition("@")[2]
    kiln.redis.execute_command("ACL", "SETUSER", "producer", "reset", *rules)
    url = SecretStr(f"redis://producer:acl-test@{address}")
    door = Kiln(settings.model_copy(update={"redis_url": url}))
    yield door
    door.redis.close()
    kiln.redis.execute_command("ACL", "DELUSER", "producer")


def test_the_producers_role_suffices_and_cannot_touch_the_clocks(kiln: Kiln, producer: Kiln) -> None:
    producer.submit_many([spec(), spec()], ids=["a", "b"], batch="night")
    kiln.redis.hset("rq:job:b", "status", "started")  # as a worker takes it
    kiln.redis.lrem(f"rq:queue:{LANE}", 0, "b")
    kiln.redis.set("kiln:own:b", "e")
    kiln.redis.zadd("kiln:leases", {"b:e": 1})
    kiln.redis.set("kiln:taken:e", "b")
    assert producer.status("b").state == "started"
    assert [lane.queued for lane in producer.farm().lanes] == [1]
    assert producer.cancel(["a", "b"]) == {"a": "queued", "b": "started"}
    assert kiln.redis.exists("kiln:own:b") == 0
    Claims(kiln.redis, "worker-1").reap()  # a worker ends what is left: it may change the client's clock
    assert kiln.redis.exists("kiln:leases") == 0
    assert producer.status("b").state == "cancelled"
    for act in (
        lambda redis: redis.hset("kiln:clocks", "default", 0),
        lambda redis: redis.set("kiln:now", 0),
        lambda redis: redis.zrange("kiln:leases", 0, -1),
        lambda redis: redis.get("kiln:taken:e"),
        lambda redis: redis.delete("kiln:leases"),
        lambda redis: redis.lrange("kiln:mail", 0, -1),
        lambda redis: redis.zadd("kiln:level:demo:bf16:normal", {"mallory": 0}),
        lambda redis: redis.delete("kiln:kinds"),
        lambda redis: redis.config_get("*"),
    ):
        with pytest.raises(NoPermissionError):
            act(producer.redis)


def test_without_leave_to_mail_a_producer_submits_all_the_same(kiln: Kiln, producer: Kiln) -> None:
    """An ACL file from before kiln:mail: workers find the lane as they find those of plain RQ."""
    keys = ("~rq:*", "~kiln:bell:*", "~kiln:own:*")
    kiln.redis.execute_command("ACL", "SETUSER", "producer", "resetkeys", *keys)
    assert producer.submit(id="mine", **spec()).created
    assert kiln.redis.exists("kiln:mail") == 0
    worker = Claims(kiln.redis, "worker-1")
    claim = worker.take(["demo:bf16"])
    assert claim is not None
    assert claim.job_id == "mine"
    assert producer.submit(id="next", **spec(client="next")).created
    assert worker.look()
    assert producer.cancel(["mine", "next"], any_client=True) == {"mine": "started", "next": "queued"}


def test_cancelling_many_is_few_short_calls(kiln: Kiln) -> None:
    ids = [f"j{number}" for number in range(2 * CHUNK + 1)]
    kiln.redis.rpush(f"rq:queue:{LANE}", *(f"before-{number}" for number in range(1000)))
    kiln.submit_many([spec() for _ in ids], ids=ids)
    kiln.cancel(["other"])  # loads the script
    kiln.redis.config_resetstat()
    assert set(kiln.cancel(ids).values()) == {"queued"}
    assert commands(kiln) == 3
    everything: Any = kiln.redis.info("commandstats")
    assert "cmdstat_lrem" not in everything  # which looks through the whole lane
    kiln.redis.ltrim(f"rq:queue:{LANE}", 1000, -1)
    kiln.submit(id="near", **spec())
    kiln.redis.ltrim(f"rq:queue:{LANE}", -1, -1)
    assert kiln.cancel(["near"]) == {"near": "queued"}
    assert queued(kiln) == []


def test_the_end_of_the_block_closes_the_connections(settings: Settings, kiln: Kiln) -> None:
    def connected() -> int:
        return len(kiln.redis.client_list())

    before = connected()
    with Kiln(settings) as door:
        door.statuses(["nothing"])  # asks Redis, then the bucket
        assert connected() == before + 1
        pool = door.bucket._client._endpoint.http_session._manager.pools  # type: ignore[attr-defined]
        assert len(pool) == 1
    assert len(pool) == 0
    until(lambda: connected() == before, "the server has seen it")
    assert door.statuses(["nothing"]) == {"nothing": None}  # opens new ones
    door.close()


def test_a_reference_goes_to_the_bucket_once_by_its_content(kiln: Kiln, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "ref.png"
    Image.new("RGB", (64, 64), "red").save(path)
    wanted = {"prompt": "a fox", "references": (path,), "client": "refs-test"}
    first, second = kiln.submit(**wanted), kiln.submit(**wanted)
    assert first.spec.references == second.spec.references
    stored = kiln.bucket.get(f"refs/refs-test/{first.spec.references[0]}")
    assert stored == path.read_bytes()


def test_nothing_is_uploaded_or_queued_for_a_bad_reference(kiln: Kiln, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(SpecError, match=r"^references \(.*text.png\): is not a picture"):
        kiln.submit(prompt="x", references=[text])
    with pytest.raises(SpecError, match=r"^references: .*nothing.png: No such file"):
        kiln.submit(prompt="x", references=[tmp_path / "nothing.png"])
    assert kiln.redis.dbsize() == 0
