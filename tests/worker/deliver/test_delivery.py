"""Handing over: the render thread goes on, and what was handed over is stored in the end."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.deliver import encoder
from tests.waiting import until
from tests.worker.deliver.stored import Open, Rewire, Take, finished, objects, sidecar
from tests.worker.pictures import noise, rendered
from tests.worker.queue.farm import charged


def test_a_picture_is_stored_and_its_job_finished(
    open_delivery: Open, take: Take, kiln: Kiln, bucket: Bucket, settings: Settings
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


@pytest.mark.parametrize("restarted", [False, True])
def test_a_picture_costs_what_went_into_it_once(
    open_delivery: Open, take: Take, kiln: Kiln, restarted: bool
) -> None:
    claim, delivery = take(), open_delivery()
    assert charged(kiln, claim.lane.client) == 30.0  # estimated
    if restarted:
        delivery._encoder.encode(replace(rendered(claim), cost=12.0))
        delivery._spool.close()
        delivery = open_delivery(worker="reborn")
        delivery.recover()
        assert charged(kiln, claim.lane.client) == 12.0
    delivery.start()
    if not restarted:
        delivery.put(replace(rendered(claim), cost=12.0))
    finished(kiln, claim)
    assert charged(kiln, claim.lane.client) == 12.0


def test_what_is_handed_over_is_no_suspect_from_then_on(open_delivery: Open, take: Take) -> None:
    claim, delivery = take(), open_delivery()  # not started: it stays in memory
    delivery._spool.mark(claim)
    delivery.put(rendered(claim))
    assert [mark.handed for mark in delivery._spool.marked()] == [True]


def test_handing_over_does_not_wait_for_storage(open_delivery: Open, take: Take, rewire: Rewire) -> None:
    settings, proxy = rewire("s3")
    delivery = open_delivery(settings)
    proxy.cut()
    delivery.start()
    for _ in range(6):
        delivery.put(rendered(take()))
    until(lambda: len(list(settings.spool_dir.glob("done-*"))) == 6, "all lie in the spool")


def test_times_add_up(open_delivery: Open, take: Take, kiln: Kiln, bucket: Bucket) -> None:
    claim, delivery = take(), open_delivery()
    delivery.start()
    delivery.put(replace(rendered(claim), taken=time.time() - 2.0))
    finished(kiln, claim)
    times = sidecar(bucket, claim).timings
    named = times.load + times.prefix + sum(times.steps) + times.decode + times.checks + times.encode
    assert times.total >= 2.0
    assert named + times.upload + times.other == pytest.approx(times.total, rel=0.05)


def test_a_worker_told_to_leave_does_not_wait_for_room(open_delivery: Open, take: Take) -> None:
    delivery = open_delivery()  # not started: nobody makes room
    handed = [delivery.put(rendered(take()), lambda: True) for _ in range(encoder.WAITING + 1)]
    assert handed == [True] * encoder.WAITING + [False]


def test_closing_after_a_thread_has_died_does_not_hang(open_delivery: Open, take: Take) -> None:
    delivery = open_delivery()
    bad = replace(rendered(take()), pixels=np.zeros((64, 64), np.uint8))  # no picture: a bug of ours
    delivery._encoder.handed.put(bad)
    for _ in range(encoder.WAITING - 1):
        delivery._encoder.handed.put(bad)
    delivery.start()
    until(lambda: delivery.broken, "it says that it is broken")
    while not delivery._encoder.handed.full():
        delivery._encoder.handed.put(bad)
    closing = threading.Thread(target=delivery.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
