"""Of a job that was cancelled nothing stays in the bucket, whoever is left; of others' jobs all does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pixelkiln.jobs import Kiln, keys
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.deliver import uploader
from pixelkiln.worker.deliver.commit import Pair
from pixelkiln.worker.deliver.sweep import sweep
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.strays import KEEP, Stray
from tests.waiting import until
from tests.worker.deliver.stored import Make, Open, Take, finished, objects
from tests.worker.pictures import noise, rendered
from tests.worker.queue.farm import DEMO, expire, poison


@pytest.fixture
def leave(open_delivery: Open, bucket: Bucket) -> Callable[..., None]:
    """What a worker that died while it delivered has left of a job: its picture, or both objects."""

    def act(claim: Claim, what: str = "picture") -> None:
        dead = open_delivery(spool=f"dead-{claim.execution}")
        dead._encoder.encode(rendered(claim))
        (entry,) = dead._uploader._spool.entries()
        pair = Pair(bucket, entry.draft.sidecar, lambda: True)
        if what == "both":
            pair.commit(entry.png(), lambda: entry.draft.sidecar)
        else:
            pair._place(entry.png(), None)

    return act


def there(bucket: Bucket, claim: Claim) -> list[bytes | None]:
    return [bucket.get(key) for key in objects(claim)]


def due(kiln: Kiln) -> None:
    """As if the time had come to look again."""
    for name in kiln.redis.zrange(keys.SWEEPS, 0, -1):
        kiln.redis.zadd(keys.SWEEPS, {name: 1})


def old(kiln: Kiln) -> None:
    """As if no request could be on its way any more."""
    for name, known in kiln.redis.hgetall(keys.STRAYS).items():
        kiln.redis.hset(keys.STRAYS, name, b"1 " + known.partition(b" ")[2])
    due(kiln)


def swept(claims: Claims, bucket: Bucket) -> int:
    """One worker's turn: how many jobs it looked at."""
    strays = claims.strays.due()
    for stray in strays:
        sweep(bucket, claims.strays, stray)
    assert claims.strays.due(strays) == []
    return len(strays)


@pytest.mark.parametrize("what", ["picture", "both"])
@pytest.mark.parametrize("moment", ["while the dead one has it", "while it waits", "while another renders"])
def test_what_a_dead_worker_left_of_a_cancelled_job_goes(
    open_delivery: Open,
    make_claims: Make,
    take: Take,
    kiln: Kiln,
    bucket: Bucket,
    leave: Callable[..., None],
    what: str,
    moment: str,
) -> None:
    claim, other = take(), make_claims("worker-2")
    leave(claim, what)
    if moment == "while the dead one has it":
        kiln.cancel([claim.job_id], any_client=True)
    expire(kiln, claim)
    other.reap()
    if moment == "while it waits":
        kiln.cancel([claim.job_id], any_client=True)
    elif moment == "while another renders":
        again = other.take(DEMO)
        assert again is not None
        kiln.cancel([claim.job_id], any_client=True)
        assert other.renew([(again, None)]) == {again.execution}
    due(kiln)
    left = open_delivery(worker="worker-3")  # who has never heard of it
    left.start()
    until(lambda: there(bucket, claim) == [None, None], "the bucket is cleared")
    left.close()
    assert kiln.status(claim.job_id).state == "cancelled"


@pytest.mark.parametrize("what", ["picture", "both"])
def test_a_job_that_goes_on_keeps_what_was_left(
    open_delivery: Open,
    make_claims: Make,
    take: Take,
    kiln: Kiln,
    bucket: Bucket,
    leave: Callable[..., None],
    what: str,
) -> None:
    claim, other = take(), make_claims("worker-2")
    leave(claim, what)
    expire(kiln, claim)
    assert other.reap() == [claim.job_id]
    assert swept(other, bucket) == 0
    again = other.take(DEMO)
    assert again is not None
    due(kiln)
    assert swept(other, bucket) == 0
    delivery = open_delivery(worker="worker-2")
    delivery.start()
    delivery.put(rendered(again, noise(seed=5)))
    finished(kiln, claim)
    before = there(bucket, claim)
    delivery.close()
    kiln.redis.hset(keys.JOB(claim.job_id), "status", "canceled")  # as a producer forges it
    due(kiln)
    assert swept(other, bucket) == 0
    assert there(bucket, claim) == before
    assert None not in before
    assert kiln.redis.zcard(keys.SWEEPS) == kiln.redis.hlen(keys.STRAYS) == 0


def test_a_request_that_comes_late_is_cleared_too_and_then_nothing_is_kept(
    make_claims: Make, take: Take, kiln: Kiln, bucket: Bucket, leave: Callable[..., None]
) -> None:
    claim, other = take(), make_claims("worker-2")
    kiln.cancel([claim.job_id], any_client=True)
    expire(kiln, claim)
    other.reap()
    assert swept(other, bucket) == 1
    assert swept(other, bucket) == 0  # not at once again
    leave(claim, "picture")
    due(kiln)
    assert swept(other, bucket) == 1
    assert there(bucket, claim) == [None, None]
    old(kiln)
    assert swept(other, bucket) == 1
    assert kiln.redis.zcard(keys.SWEEPS) == kiln.redis.hlen(keys.STRAYS) == 0


def test_a_worker_that_dies_while_it_sweeps_leaves_it_to_another(
    make_claims: Make, take: Take, kiln: Kiln, bucket: Bucket, leave: Callable[..., None]
) -> None:
    claim, first, second = take(), make_claims("worker-2"), make_claims("worker-3")
    leave(claim, "both")
    kiln.cancel([claim.job_id], any_client=True)
    expire(kiln, claim)
    first.reap()
    old(kiln)
    assert len(first.strays.due()) == 1
    bucket.delete(objects(claim)[1])
    due(kiln)
    assert swept(second, bucket) == 1
    assert there(bucket, claim) == [None, None]


def test_a_clock_set_back_does_not_put_it_off(
    make_claims: Make, take: Take, kiln: Kiln, bucket: Bucket, leave: Callable[..., None]
) -> None:
    claim, other = take(), make_claims("worker-2")
    leave(claim)
    kiln.cancel([claim.job_id], any_client=True)
    expire(kiln, claim)
    other.reap()
    (name,) = kiln.redis.zrange(keys.SWEEPS, 0, -1)
    kiln.redis.zincrby(keys.SWEEPS, 6 * 3600.0, name)
    assert swept(other, bucket) == 1
    assert there(bucket, claim) == [None, None]
    assert kiln.redis.zscore(keys.SWEEPS, name) <= float(kiln.redis.time()[0]) + KEEP


def test_what_was_taken_up_while_it_was_looked_at_stays(
    make_claims: Make,
    take: Take,
    kiln: Kiln,
    bucket: Bucket,
    leave: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim, other = take(), make_claims("worker-2")
    leave(claim)
    kiln.cancel([claim.job_id], any_client=True)
    expire(kiln, claim)
    other.reap()
    (stray,) = other.strays.due()
    asked = other.strays.abandoned

    def late(job_id: str, **more: bool) -> bool:
        answer = asked(job_id, **more)
        bucket.put(objects(claim)[0], b"its new owner's", "image/png")
        return answer

    monkeypatch.setattr(other.strays, "abandoned", late)
    sweep(bucket, other.strays, stray)
    assert bucket.get(objects(claim)[0]) == b"its new owner's"


@pytest.mark.parametrize("arrives", ["the picture", "the sidecar"])
def test_an_owner_that_was_frozen_takes_back_what_it_sent(
    open_delivery: Open,
    take: Take,
    kiln: Kiln,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    arrives: str,
) -> None:
    """It had asked, froze, and sends: nobody sweeps after it here."""
    monkeypatch.setattr(uploader, "SWEEP", 1e9)
    claim, delivery = take(), open_delivery()
    delivery._uploader._sweep_at = float("inf")
    put = Bucket.put

    def frozen(self: Bucket, key: str, *arguments: Any, **named: Any) -> bool:
        if key == objects(claim)[arrives == "the sidecar"]:
            kiln.cancel([claim.job_id], any_client=True)
        return put(self, key, *arguments, **named)

    monkeypatch.setattr(Bucket, "put", frozen)
    delivery.start()
    delivery.put(rendered(claim))
    until(lambda: kiln.status(claim.job_id).state == "cancelled", "it is cancelled")
    delivery.close()
    assert there(bucket, claim) == [None, None]


@pytest.mark.parametrize("seed", [1, 2], ids=["the same spec", "another spec"])
def test_a_forged_cancel_deletes_nothing_that_another_client_has(
    open_delivery: Open, take: Take, make_claims: Make, kiln: Kiln, bucket: Bucket, seed: int
) -> None:
    """A producer deletes a finished job's record, writes it anew, and cancels it while it is delivered."""
    claim = take()
    first = open_delivery(spool="first")
    first.start()
    first.put(rendered(claim))
    finished(kiln, claim)
    first.close()
    before = there(bucket, claim)
    kiln.redis.delete(f"rq:job:{claim.job_id}")
    record = {"status": "queued", "origin": claim.lane.name, "data": claim.data}
    poison(kiln, claim.job_id, record, claim.lane.name)
    again = make_claims("worker-2").take(DEMO)
    assert again is not None
    second = open_delivery(spool="second", worker="worker-2")
    finish, fail = second._uploader._claims.finish, second._uploader._claims.fail

    def cancelled(act: Any) -> Any:
        def forged(*arguments: Any) -> Any:
            kiln.redis.hset(f"rq:job:{claim.job_id}", "status", "canceled")
            return act(*arguments)

        return forged

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(second._uploader._claims, "finish", cancelled(finish))
        patch.setattr(second._uploader._claims, "fail", cancelled(fail))
        second.start()
        second.put(rendered(again, noise(seed=5), seed=seed))
        until(lambda: kiln.status(claim.job_id).state == "cancelled", "the forgery is there")
        second.close()
    expire(kiln, again)
    third = make_claims("worker-3")
    third.reap()
    due(kiln)
    swept(third, bucket)
    assert there(bucket, claim) == before
    assert None not in before


@pytest.mark.parametrize(("client", "job_id"), [("..", "fox"), ("A", "fox"), ("alice", "../bob/fox")])
def test_names_that_make_no_key_are_passed_over(client: str, job_id: str) -> None:
    """A lane may be named by anybody, and what S3 calls an invalid request would hold up all the others."""
    nothing: Any = None
    sweep(nothing, nothing, Stray("name", client, job_id, ("execution",)))


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_what_was_stored_whole_only_a_cancel_makes_unwanted(
    make_claims: Make, take: Take, kiln: Kiln, bucket: Bucket, leave: Callable[..., None], end: str
) -> None:
    """It may have finished, and been told so, before Redis went back to when it was rendered."""
    claim, other = take(), make_claims("worker-2")
    leave(claim, "both")
    before = there(bucket, claim)
    expire(kiln, claim)
    other.reap()
    if end == "failed":
        again = other.take(DEMO)
        assert again is not None
        assert other.fail(again, "quarantined")
    else:
        kiln.cancel([claim.job_id], any_client=True)
    due(kiln)
    swept(other, bucket)
    assert there(bucket, claim) == (before if end == "failed" else [None, None])
