"""Finished means stored: the picture, then its sidecar, once, whatever the bucket does in between."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import redis
from PIL import Image

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.deliver import delivery as module
from pixelkiln.worker.deliver.delivery import Delivery, Machine
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claims import Claim, Claims
from pixelkiln.worker.queue.heartbeat import Heartbeat
from tests.waiting import until
from tests.wire import Proxy
from tests.worker.pictures import noise, rendered

Make = Callable[..., Claims]
Rewire = Callable[..., tuple[Settings, Proxy]]
Open = Callable[..., Delivery]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "LEAVING", 1.0)


@pytest.fixture
def open_delivery(settings: Settings, make_claims: Make) -> Iterator[Open]:
    """A delivery with a spool, not started; closed at the end of the test."""
    opened: list[tuple[Delivery, Spool]] = []

    def make(where: Settings = settings, worker: str = "worker-1", spool: str = "spool") -> Delivery:
        claims = make_claims(worker, where)
        heartbeat = Heartbeat(claims, {}, Watchdog(900.0))
        folder = Spool(where.spool_dir.with_name(spool))
        machine = Machine("1", {"python": "3"}, {"worker": worker})
        made = Delivery(folder, claims, Bucket.open(where, attempts=1), heartbeat, machine, where.renders_dir)
        opened.append((made, folder))
        return made

    yield make
    for delivery, folder in opened:
        if delivery._threads[0].is_alive():
            delivery.close(lambda: True)
        folder.close()


@pytest.fixture
def take(claims: Claims, submit: Callable[..., str]) -> Callable[..., Claim]:
    """A claim on a job of a client of its own: the bucket is shared."""

    def act() -> Claim:
        submit(client=f"c{uuid.uuid4().hex[:12]}", seed=1)
        claim = claims.take(["demo:bf16"])
        assert claim is not None
        return claim

    return act


def objects(claim: Claim) -> tuple[str, str]:
    return keys.PICTURE(claim.lane.client, claim.job_id), keys.SIDECAR(claim.lane.client, claim.job_id)


def digest(body: bytes | None) -> str:
    return hashlib.sha256(body or b"").hexdigest()


def sidecar(bucket: Bucket, claim: Claim) -> Sidecar:
    return Sidecar.model_validate_json(bucket.get(objects(claim)[1]) or b"")


def finished(kiln: Kiln, claim: Claim) -> None:
    until(lambda: kiln.status(claim.job_id).state == "finished", "the job is finished")


def test_a_picture_is_stored_and_its_job_finished(
    open_delivery: Open, take: Callable[[], Claim], kiln: Kiln, bucket: Bucket, settings: Settings
) -> None:
    claim, delivery = take(), open_delivery()
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    delivery.close()
    png, record = bucket.get(objects(claim)[0]), sidecar(bucket, claim)
    assert png is not None
    digest = hashlib.sha256(png).hexdigest()
    assert record.png.model_dump() == {
        "key": objects(claim)[0],
        "sha256": digest,
        "bytes": len(png),
        "width": 64,
        "height": 64,
    }
    assert kiln.status(claim.job_id).as_dict()["result"] == {
        "png": objects(claim)[0],
        "sidecar": objects(claim)[1],
        "sha256": digest,
    }
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), noise())
    assert (record.job.id, record.job.execution, record.job.attempt) == (claim.job_id, claim.execution, 1)
    assert settings.renders_dir is not None
    assert (settings.renders_dir / f"{claim.job_id}.png").read_bytes() == png
    assert list(settings.spool_dir.glob("*-*")) == []
    assert delivery.trouble is None


def test_handing_over_does_not_wait_for_storage(
    open_delivery: Open, take: Callable[[], Claim], rewire: Rewire
) -> None:
    settings, proxy = rewire("s3")
    delivery = open_delivery(settings)
    proxy.cut()
    delivery.start()
    for _ in range(6):
        delivery.put(rendered(take()))
    until(lambda: len(list(settings.spool_dir.glob("done-*"))) == 6, "all lie in the spool")


def test_storage_away_and_back(
    open_delivery: Open, take: Callable[[], Claim], rewire: Rewire, kiln: Kiln, bucket: Bucket
) -> None:
    settings, proxy = rewire("s3")
    claims = [take() for _ in range(3)]
    delivery = open_delivery(settings)
    proxy.cut()
    delivery.start()
    for claim in claims:
        delivery.put(rendered(claim))
    told = until(lambda: delivery.trouble, "it says that nothing can be stored")
    assert "is unreachable" in told
    assert {kiln.status(claim.job_id).state for claim in claims} == {"started"}
    proxy.mend()
    for claim in claims:
        finished(kiln, claim)
        assert sidecar(bucket, claim).png.sha256
    until(lambda: delivery.trouble is None, "the trouble is over")


@pytest.mark.parametrize("moment", [b"IDAT", b'"schema_version"'], ids=["picture", "sidecar"])
def test_a_lost_reply_stores_nothing_twice(
    open_delivery: Open, take: Callable[[], Claim], rewire: Rewire, kiln: Kiln, bucket: Bucket, moment: bytes
) -> None:
    settings, proxy = rewire("s3")
    claim, delivery = take(), open_delivery(settings)
    proxy.lose_reply_to(moment)
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    assert proxy.lost == 1
    assert digest(bucket.get(objects(claim)[0])) == sidecar(bucket, claim).png.sha256


def test_redis_away_at_the_end_finishes_the_job_later(
    open_delivery: Open, take: Callable[[], Claim], rewire: Rewire, kiln: Kiln
) -> None:
    settings, proxy = rewire("redis")
    claim, delivery = take(), open_delivery(settings)
    proxy.cut()
    delivery.start()
    delivery.put(rendered(claim))
    until(lambda: delivery.trouble, "it says that nothing can be stored")
    proxy.mend()
    finished(kiln, claim)


def test_a_lost_reply_to_the_settlement_ends_the_job_once(
    open_delivery: Open, take: Callable[[], Claim], rewire: Rewire, kiln: Kiln
) -> None:
    settings, proxy = rewire("redis")
    claim, delivery = take(), open_delivery(settings)
    proxy.lose_reply_to(b"XADD")
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    until(lambda: not list(settings.spool_dir.glob("done-*")), "the spool is empty")
    assert proxy.lost == 1
    assert kiln.redis.xlen(f"rq:results:{claim.job_id}") == 1
    delivery.close()
    assert settings.renders_dir is not None
    assert (settings.renders_dir / f"{claim.job_id}.png").exists()  # it knew that the end was its own


def test_a_store_that_lies_never_finishes_a_job(
    open_delivery: Open, take: Callable[[], Claim], rewire: Rewire, kiln: Kiln, bucket: Bucket
) -> None:
    settings, proxy = rewire("s3")
    claim, delivery = take(), open_delivery(settings)
    lies = threading.Semaphore(0)

    def lie(request: bytes, reply: bytes) -> bytes:
        if b"IDAT" in reply:
            lies.release()
        return reply.replace(b"IDAT", b"IDAX")

    proxy.alter = lie
    delivery.start()
    delivery.put(rendered(claim))
    for _ in range(3):
        assert lies.acquire(timeout=20)
    assert delivery.trouble is not None
    assert "does not read back as it was written" in delivery.trouble
    assert kiln.status(claim.job_id).state == "started"
    assert bucket.get(objects(claim)[1]) is None
    proxy.alter = None
    finished(kiln, claim)


def test_a_picture_without_a_sidecar_is_replaced(
    open_delivery: Open, take: Callable[[], Claim], kiln: Kiln, bucket: Bucket
) -> None:
    claim, delivery = take(), open_delivery()
    bucket.put(objects(claim)[0], b"a dead worker's", "image/png")
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    assert digest(bucket.get(objects(claim)[0])) == sidecar(bucket, claim).png.sha256


def test_what_another_execution_committed_stands(
    open_delivery: Open, take: Callable[[], Claim], kiln: Kiln, bucket: Bucket
) -> None:
    """The owner before stored both and died before it could say so; another chip renders other bytes."""
    claim = take()
    first = open_delivery(spool="first")
    first.start()
    first.put(rendered(claim))
    finished(kiln, claim)
    first.close()
    before = bucket.get(objects(claim)[0]), bucket.get(objects(claim)[1])
    kiln.redis.hset(f"rq:job:{claim.job_id}", "status", "queued")
    kiln.redis.lpush(f"rq:queue:{claim.lane}", claim.job_id)
    kiln.redis.zrem(f"rq:finished:{claim.lane}", claim.job_id)
    again = first._claims.take(["demo:bf16"])
    assert again is not None
    second = open_delivery(spool="second", worker="worker-2")
    second.start()
    second.put(rendered(again, noise(seed=5)))
    finished(kiln, claim)
    second.close()
    assert (bucket.get(objects(claim)[0]), bucket.get(objects(claim)[1])) == before
    result = kiln.status(claim.job_id).result
    assert result is not None
    assert result.sha256 == sidecar(bucket, claim).png.sha256


@pytest.mark.parametrize("left", [b"", b"{}", b"\xff", b'{"schema_version": 1}'])
def test_a_sidecar_that_cannot_be_read_does_not_stop_the_worker(
    open_delivery: Open, take: Callable[[], Claim], kiln: Kiln, bucket: Bucket, left: bytes
) -> None:
    claim, delivery = take(), open_delivery()
    bucket.put(objects(claim)[1], left, "application/json")
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    assert delivery.broken is None
    assert sidecar(bucket, claim).job.execution == claim.execution


@pytest.mark.parametrize("how", ["cancelled", "given to another"])
def test_what_is_not_ours_any_more_is_not_stored(
    open_delivery: Open, take: Callable[[], Claim], kiln: Kiln, bucket: Bucket, settings: Settings, how: str
) -> None:
    claim, delivery = take(), open_delivery()
    if how == "cancelled":
        kiln.cancel([claim.job_id], any_client=True)
    else:
        delivery._claims.release(claim)
        assert delivery._claims.take(["demo:bf16"]) is not None
    delivery.start()
    delivery.put(rendered(claim))
    until(lambda: not list(settings.spool_dir.glob("*-*")) and delivery._handed.empty(), "it stepped back")
    delivery.close()
    assert bucket.get(objects(claim)[0]) is None
    assert bucket.get(objects(claim)[1]) is None


def test_the_spool_is_delivered_by_the_next_life(
    open_delivery: Open, take: Callable[[], Claim], kiln: Kiln, rewire: Rewire
) -> None:
    settings, proxy = rewire("s3")
    proxy.cut()
    first = open_delivery(settings)
    claims = [take() for _ in range(3)]
    first.start()
    for claim in claims:
        first.put(rendered(claim))
    first.close(lambda: True)
    first._spool.close()
    kiln.cancel([claims[0].job_id], any_client=True)
    first._claims.release(claims[1])  # queued again, and not taken by another
    proxy.mend()
    second = open_delivery(settings, worker="worker-2")
    second.recover()
    assert {claim.job_id for claim in second._heartbeat.held()} == {claim.job_id for claim in claims[1:]}
    second.start()
    for claim in claims[1:]:
        finished(kiln, claim)
    assert kiln.status(claims[0].job_id).state == "cancelled"
    assert kiln.redis.llen(f"rq:queue:{claims[1].lane}") == 0
    second.close()
    assert list(settings.spool_dir.glob("*-*")) == []


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_spooled_picture_is_rendered_again(
    open_delivery: Open, take: Callable[[], Claim], kiln: Kiln, rewire: Rewire, damage: str
) -> None:
    settings, proxy = rewire("s3")
    proxy.cut()
    claim, first = take(), open_delivery(settings)
    first.start()
    first.put(rendered(claim))
    first.close(lambda: True)
    first._spool.close()
    picture = next(settings.spool_dir.glob("done-*/image.png"))
    if damage == "gone":
        picture.unlink()
    else:
        picture.write_bytes(picture.read_bytes()[:-1] + b"!")
    proxy.mend()
    second = open_delivery(settings)
    second.recover()
    second.start()
    until(lambda: kiln.status(claim.job_id).state == "queued", "the job is given back")
    second.close()
    assert second.broken is None
    assert len(list(settings.spool_dir.glob("bad-*"))) == 1
    assert second._heartbeat.held() == []


def test_what_was_committed_before_a_cancel_leaves_the_bucket(
    open_delivery: Open,
    take: Callable[[], Claim],
    kiln: Kiln,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim, first = take(), open_delivery()

    def away(*_: object) -> bool:
        raise redis.ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(first._claims, "finish", away)  # it dies between the sidecar and the end of the job
        first.start()
        first.put(rendered(claim))
        until(lambda: all(bucket.head(key) for key in objects(claim)), "the sidecar is committed")
        first.close(lambda: True)
    first._spool.close()
    kiln.cancel([claim.job_id], any_client=True)
    second = open_delivery(worker="worker-2")
    second.recover()
    second.start()
    until(lambda: not any(bucket.head(key) for key in objects(claim)), "the bucket is cleared")
    second.close()
    assert kiln.status(claim.job_id).state == "cancelled"


def test_a_picture_whose_job_redis_forgot_is_stored_all_the_same(
    open_delivery: Open, take: Callable[[], Claim], kiln: Kiln, bucket: Bucket, settings: Settings
) -> None:
    claim, first = take(), open_delivery()
    first._encode(rendered(claim))
    first._spool.close()
    kiln.redis.flushdb()
    second = open_delivery(worker="worker-2")
    second.recover()
    second.start()
    until(lambda: bucket.get(objects(claim)[1]), "the sidecar is stored")
    second.close()
    assert list(settings.spool_dir.glob("*-*")) == []


def test_times_add_up(open_delivery: Open, take: Callable[[], Claim], kiln: Kiln, bucket: Bucket) -> None:
    claim, delivery = take(), open_delivery()
    delivery.start()
    delivery.put(replace(rendered(claim), taken=time.time() - 2.0))
    finished(kiln, claim)
    times = sidecar(bucket, claim).timings
    named = times.load + times.prefix + sum(times.steps) + times.decode + times.checks + times.encode
    assert times.total >= 2.0
    assert named + times.upload + times.other == pytest.approx(times.total, rel=0.05)


def test_a_worker_told_to_leave_does_not_wait_for_room(
    open_delivery: Open, take: Callable[[], Claim]
) -> None:
    delivery = open_delivery()  # not started: nobody makes room
    handed = [delivery.put(rendered(take()), lambda: True) for _ in range(module.WAITING + 1)]
    assert handed == [True] * module.WAITING + [False]


def test_closing_after_a_thread_has_died_does_not_hang(
    open_delivery: Open, take: Callable[[], Claim]
) -> None:
    delivery = open_delivery()
    bad = replace(rendered(take()), pixels=np.zeros((64, 64), np.uint8))  # no picture: a bug of ours
    delivery._handed.put(bad)
    for _ in range(module.WAITING - 1):
        delivery._handed.put(bad)
    delivery.start()
    until(lambda: delivery.broken, "it says that it is broken")
    while not delivery._handed.full():
        delivery._handed.put(bad)
    closing = threading.Thread(target=delivery.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
