"""What lies in the bucket already: half a pair is replaced, a whole one stands."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Kiln
from pixelkiln.jobs.storage.bucket import Bucket
from tests.worker.deliver.stored import Open, Take, digest, finished, objects, sidecar
from tests.worker.pictures import noise, rendered


def test_a_picture_without_a_sidecar_is_replaced(
    open_delivery: Open, take: Take, kiln: Kiln, bucket: Bucket
) -> None:
    claim, delivery = take(), open_delivery()
    bucket.put(objects(claim)[0], b"a dead worker's", "image/png")
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    assert digest(bucket.get(objects(claim)[0])) == sidecar(bucket, claim).png.sha256


def test_what_another_execution_committed_stands(
    open_delivery: Open, take: Take, kiln: Kiln, bucket: Bucket
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
    again = first._uploader._claims.take(["demo:bf16"])
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
    open_delivery: Open, take: Take, kiln: Kiln, bucket: Bucket, left: bytes
) -> None:
    claim, delivery = take(), open_delivery()
    bucket.put(objects(claim)[1], left, "application/json")
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    assert delivery.broken is None
    assert sidecar(bucket, claim).job.execution == claim.execution
