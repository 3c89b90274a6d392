"""Finished means stored: the picture, then its sidecar, once, whatever storage and Redis do in between."""

from __future__ import annotations

import shutil
import threading

import pytest
import redis

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.storage.bucket import Bucket
from tests.waiting import until
from tests.worker.deliver.stored import Open, Rewire, Take, digest, finished, objects, sidecar
from tests.worker.pictures import rendered


def test_storage_away_and_back(
    open_delivery: Open, take: Take, rewire: Rewire, kiln: Kiln, bucket: Bucket
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
    open_delivery: Open, take: Take, rewire: Rewire, kiln: Kiln, bucket: Bucket, moment: bytes
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
    open_delivery: Open, take: Take, rewire: Rewire, kiln: Kiln
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
    open_delivery: Open, take: Take, rewire: Rewire, kiln: Kiln
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
    open_delivery: Open, take: Take, rewire: Rewire, kiln: Kiln, bucket: Bucket
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


@pytest.mark.parametrize("how", ["cancelled", "given to another"])
def test_what_is_not_ours_any_more_is_not_stored(
    open_delivery: Open, take: Take, kiln: Kiln, bucket: Bucket, settings: Settings, how: str
) -> None:
    claim, delivery = take(), open_delivery()
    if how == "cancelled":
        kiln.cancel([claim.job_id], any_client=True)
    else:
        delivery._uploader._claims.release(claim)
        assert delivery._uploader._claims.take(["demo:bf16"]) is not None
    delivery.start()
    delivery.put(rendered(claim))
    until(
        lambda: not list(settings.spool_dir.glob("*-*")) and delivery._encoder.handed.empty(),
        "it stepped back",
    )
    delivery.close()
    assert bucket.get(objects(claim)[0]) is None
    assert bucket.get(objects(claim)[1]) is None


def test_the_spool_is_delivered_by_the_next_life(
    open_delivery: Open, take: Take, kiln: Kiln, rewire: Rewire
) -> None:
    settings, proxy = rewire("s3")
    proxy.cut()
    first = open_delivery(settings)
    claims = [take() for _ in range(3)]
    first.start()
    for claim in claims:
        first.put(rendered(claim))
    first.close(lambda: True)
    first._uploader._spool.close()
    kiln.cancel([claims[0].job_id], any_client=True)
    first._uploader._claims.release(claims[1])  # queued again, and not taken by another
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
    open_delivery: Open, take: Take, kiln: Kiln, rewire: Rewire, damage: str
) -> None:
    settings, proxy = rewire("s3")
    proxy.cut()
    claim, first = take(), open_delivery(settings)
    first.start()
    first.put(rendered(claim))
    first.close(lambda: True)
    first._uploader._spool.close()
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


def test_what_is_lost_from_the_spool_is_rendered_again(
    open_delivery: Open, take: Take, kiln: Kiln, rewire: Rewire
) -> None:
    settings, proxy = rewire("s3")
    proxy.cut()
    removed, damaged, delivery = take(), take(), open_delivery(settings)
    delivery.start()
    delivery.put(rendered(removed))
    delivery.put(rendered(damaged))
    until(lambda: len(list(settings.spool_dir.glob("done-*"))) == 2, "both are spooled")
    shutil.rmtree(next(settings.spool_dir.glob(f"done-{removed.job_id}-*")))
    (next(settings.spool_dir.glob(f"done-{damaged.job_id}-*")) / "draft.json").write_bytes(b"")
    for claim in (removed, damaged):
        until(lambda claim=claim: kiln.status(claim.job_id).state == "queued", "the job is given back")
    until(lambda: delivery.trouble is None, "there is nothing left to be in trouble about")
    assert delivery._heartbeat.held() == []


def test_what_was_committed_before_a_cancel_leaves_the_bucket(
    open_delivery: Open,
    take: Take,
    kiln: Kiln,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim, first = take(), open_delivery()

    def away(*_: object) -> bool:
        raise redis.ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(
            first._uploader._claims, "finish", away
        )  # it dies between the sidecar and the end of the job
        first.start()
        first.put(rendered(claim))
        until(lambda: all(bucket.head(key) for key in objects(claim)), "the sidecar is committed")
        first.close(lambda: True)
    first._uploader._spool.close()
    kiln.cancel([claim.job_id], any_client=True)
    second = open_delivery(worker="worker-2")
    second.recover()
    second.start()
    until(lambda: not any(bucket.head(key) for key in objects(claim)), "the bucket is cleared")
    second.close()
    assert kiln.status(claim.job_id).state == "cancelled"


def test_a_picture_whose_job_redis_forgot_is_stored_all_the_same(
    open_delivery: Open, take: Take, kiln: Kiln, bucket: Bucket, settings: Settings
) -> None:
    claim, first = take(), open_delivery()
    first._encoder.encode(rendered(claim))
    first._uploader._spool.close()
    kiln.redis.flushdb()
    second = open_delivery(worker="worker-2")
    second.recover()
    second.start()
    until(lambda: bucket.get(objects(claim)[1]), "the sidecar is stored")
    second.close()
    assert list(settings.spool_dir.glob("*-*")) == []
