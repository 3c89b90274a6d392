"""Redis lost what it knew, all of it or the latest: what lies spooled is stored all the same, once."""

from __future__ import annotations

from typing import Any

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.storage.bucket import Bucket
from tests.waiting import until
from tests.worker.deliver.stored import Make, Open, Rewire, Take, digest, finished, objects, sidecar
from tests.worker.pictures import rendered, spec_of
from tests.worker.queue.farm import DEMO

MOMENTS = ["before the picture", "after the picture", "before the end"]


class Past:
    """All that a Redis held at one moment."""

    def __init__(self, kiln: Kiln) -> None:
        self._redis = kiln.redis
        self._kept = {key: self._redis.dump(key) for key in self._redis.keys("*")}

    def restore(self) -> None:
        with self._redis.pipeline() as pipe:  # at once: nobody sees it empty
            pipe.flushall()
            for key, value in self._kept.items():
                pipe.restore(key, 0, value)
            pipe.execute()


def at(moment: str, delivery: Any, patch: pytest.MonkeyPatch, act: Any) -> None:
    """Let something happen once, at a moment of a delivery."""
    done: list[bool] = []
    uploader = delivery._uploader
    owner, name = (uploader._claims, "finish") if moment == "before the end" else (uploader._bucket, "put")
    plain = getattr(owner, name)

    def acting(first: Any, *arguments: Any, **named: Any) -> Any:
        now = not done and (name == "finish" or first.endswith("image.png"))
        if now:
            done.append(True)
        if now and moment != "after the picture":
            act()
        answer = plain(first, *arguments, **named)
        if now and moment == "after the picture":
            act()
        return answer

    patch.setattr(owner, name, acting)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_that_lives_stores_what_redis_forgot(
    open_delivery: Open, take: Take, kiln: Kiln, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    claim, delivery = take(), open_delivery()
    at(moment, delivery, monkeypatch, kiln.redis.flushall)
    delivery.start()
    delivery.put(rendered(claim))
    until(lambda: bucket.head(objects(claim)[1]), "the sidecar is stored")
    delivery.close()
    assert digest(bucket.get(objects(claim)[0])) == sidecar(bucket, claim).png.sha256
    assert delivery._uploader._spool.waiting() == 0
    assert delivery._heartbeat.held() == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_that_lives_goes_on_where_redis_went_back(
    open_delivery: Open,
    take: Take,
    make_claims: Make,
    kiln: Kiln,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    claim, delivery = take(), open_delivery()
    assert delivery._uploader._claims.release(claim)
    past = Past(kiln)  # the job waits
    again = delivery._uploader._claims.take(DEMO)
    assert again is not None
    at(moment, delivery, monkeypatch, past.restore)
    delivery.start()
    delivery.put(rendered(again))
    finished(kiln, again)
    delivery.close()
    record = sidecar(bucket, again)
    assert record.job.execution == again.execution
    assert digest(bucket.get(objects(again)[0])) == record.png.sha256
    assert make_claims("worker-2").take(DEMO) is None
    assert kiln.redis.exists(keys.OWNER(again.job_id), keys.LEASES) == 0
    assert delivery._uploader._spool.waiting() == 0


def test_what_another_has_taken_since_is_left_to_it(
    open_delivery: Open,
    take: Take,
    make_claims: Make,
    kiln: Kiln,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim, delivery, other = take(), open_delivery(), make_claims("worker-2")
    delivery._uploader._claims.release(claim)
    past = Past(kiln)
    again = delivery._uploader._claims.take(DEMO)
    assert again is not None
    taken = []

    def back() -> None:
        past.restore()
        taken.append(other.take(DEMO))

    at("after the picture", delivery, monkeypatch, back)
    delivery.start()
    delivery.put(rendered(again))
    until(lambda: taken and delivery._uploader._spool.waiting() == 0, "it stepped back")
    delivery.close()
    assert other.holds(taken[0])
    second = open_delivery(worker="worker-2", spool="second")
    second.start()
    second.put(rendered(taken[0]))
    finished(kiln, again)
    second.close()
    assert digest(bucket.get(objects(again)[0])) == sidecar(bucket, again).png.sha256


def test_a_picture_does_not_end_a_job_that_asks_for_another(
    open_delivery: Open, take: Take, kiln: Kiln, bucket: Bucket, rewire: Rewire
) -> None:
    """Redis forgot all, and its producer used the id again."""
    settings, proxy = rewire("s3")
    claim, delivery = take(), open_delivery(settings)
    proxy.cut()
    delivery.start()
    delivery.put(rendered(claim))
    until(lambda: delivery.trouble, "it says that nothing can be stored")
    kiln.redis.flushall()
    other = spec_of(client=claim.lane.client, prompt="three blue boats")
    assert kiln.queue.add([(claim.job_id, other)], None) == [True]
    proxy.mend()
    until(lambda: delivery._uploader._spool.waiting() == 0, "it stepped back")
    delivery.close()
    assert kiln.status(claim.job_id).state == "queued"
    assert [bucket.get(key) for key in objects(claim)] == [None, None]
    again = delivery._uploader._claims.take(DEMO)
    assert again is not None
    assert again.attempt == 1
