"""Answers that S3 never gives: trouble with storage, told once and tried again; no thread dies of them."""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.storage.bucket import Bucket
from tests.chaos.http_relay import Fault, HttpRelay
from tests.waiting import until
from tests.worker.deliver.stored import Open, Take, digest, finished, objects, sidecar
from tests.worker.pictures import rendered


@pytest.mark.parametrize(
    "fault",
    [
        Fault("no-etag", method="HEAD", times=0),
        Fault("no-length", method="HEAD", times=0),
        Fault("bad-date", method="GET", times=0),
        Fault("redirect", method="PUT"),
        Fault("redirect", times=0),
        Fault("odd-error", times=0),
        Fault("garbage", times=0),
    ],
    ids=lambda fault: f"{fault.spoil} {fault.method or 'all'}",
)
def test_an_odd_answer_is_told_once_and_tried_again(
    open_delivery: Open,
    take: Take,
    kiln: Kiln,
    bucket: Bucket,
    relayed: tuple[Settings, HttpRelay],
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
) -> None:
    settings, relay = relayed
    claim, delivery = take(), open_delivery(settings)
    bucket.put(objects(claim)[0], b"left by one that died", "image/png")  # there is something to ask about
    relay.spoil(fault)
    delivery.start()
    delivery.put(rendered(claim))
    told = until(lambda: delivery.trouble or delivery.broken, "it says that nothing can be stored")
    assert isinstance(told, str), told
    assert told.startswith("bucket "), told
    assert told.isprintable()
    if not fault.times:
        until(lambda: delivery._uploader._tries[claim.execution] > 2, "it tries again and again")
    relay.restore()
    finished(kiln, claim)
    delivery.close()
    assert delivery.broken is None
    assert digest(bucket.get(objects(claim)[0])) == sidecar(bucket, claim).png.sha256
    assert len([one for one in caplog.records if "nothing can be stored now" in one.message]) == 1


def test_storage_that_is_slow_is_no_trouble(
    open_delivery: Open, take: Take, kiln: Kiln, relayed: tuple[Settings, HttpRelay]
) -> None:
    settings, relay = relayed
    claim, delivery = take(), open_delivery(settings)
    relay.spoil(Fault("slow", 0.2, "PUT", times=0))
    delivery.start()
    delivery.put(rendered(claim))
    finished(kiln, claim)
    assert relay.spoilt == 2
    assert delivery.trouble is None
