"""What lies in the bucket already: half a pair is replaced, a whole one stands."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.queue.claims import Claims
from tests.waiting import until
from tests.worker.deliver.stored import Open, Take, digest, finished, objects, sidecar
from tests.worker.pictures import noise, rendered, spec_of


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


@pytest.mark.parametrize(("permit", "replaced"), [("", True), ("another", False), ("x" * 300, False)])
def test_a_committed_picture_is_replaced_where_its_client_names_it(
    open_delivery: Open, take: Take, claims: Claims, kiln: Kiln, bucket: Bucket, permit: str, replaced: bool
) -> None:
    claim, delivery = take(), open_delivery()
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    bucket.put(
        keys.AGAIN(claim.lane.client, claim.job_id), (permit or claim.execution).encode(), "text/plain"
    )
    assert kiln.queue.retry([claim.job_id], "", again=True) == {claim.job_id: "finished"}
    again = claims.take(["demo:bf16"])
    assert again is not None
    assert again.attempt == 2
    delivery.put(rendered(again, noise(seed=5)))
    finished(kiln, again)
    delivery.close()
    there = sidecar(bucket, claim)
    assert (there.job.execution == again.execution) is replaced
    assert digest(bucket.get(objects(claim)[0])) == there.png.sha256


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


def test_a_pair_of_another_spec_stays_and_the_job_fails(
    open_delivery: Open, take: Take, claims: Claims, kiln: Kiln, bucket: Bucket
) -> None:
    """The id was used, Redis has forgotten it, and whoever used it again did not see the bucket."""
    claim = take()
    delivery = open_delivery()
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    before = bucket.get(objects(claim)[0]), bucket.get(objects(claim)[1])
    kiln.redis.delete(f"rq:job:{claim.job_id}")
    other = spec_of(client=claim.lane.client, prompt="three blue boats", seed=99)
    assert kiln.queue.add([(claim.job_id, other)], None) == [True]
    again = claims.take(["demo:bf16"])
    assert again is not None
    delivery.put(rendered(again, noise(seed=5), prompt="three blue boats", seed=99))
    until(lambda: kiln.status(claim.job_id).ended, "the job has ended")
    status = kiln.status(claim.job_id)
    assert status.error == (
        f"id: {claim.job_id} was used before, for another picture (another prompt, seed);"
        " submit under another id"
    )
    delivery.close()
    assert delivery._uploader._spool.entries() == []
    assert (bucket.get(objects(claim)[0]), bucket.get(objects(claim)[1])) == before


def test_labels_and_priority_make_no_other_picture(
    open_delivery: Open, take: Take, claims: Claims, kiln: Kiln, bucket: Bucket
) -> None:
    claim, delivery = take(), open_delivery()
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    kiln.redis.delete(f"rq:job:{claim.job_id}", f"rq:results:{claim.job_id}")
    same = spec_of(client=claim.lane.client, priority="high", labels={"night": "2"})
    kiln.queue.add([(claim.job_id, same)], None)
    again = claims.take(["demo:bf16"])
    assert again is not None
    delivery.put(rendered(again, priority="high", labels={"night": "2"}))
    finished(kiln, again)
    assert sidecar(bucket, claim).job.execution == claim.execution
