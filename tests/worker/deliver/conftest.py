"""Deliveries to test with."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from pixelkiln.jobs import Settings
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.deliver import delivery as deliveries
from pixelkiln.worker.deliver import uploader
from pixelkiln.worker.deliver.delivery import Delivery
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.host.machine import Machine
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.heartbeat import Heartbeat
from tests.worker.deliver.stored import Make, Open


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploader, "PATIENCE", 0.05)
    monkeypatch.setattr(uploader, "SWEEP", 0.05)
    monkeypatch.setattr(deliveries, "LEAVING", 1.0)


@pytest.fixture
def open_delivery(settings: Settings, make_claims: Make) -> Iterator[Open]:
    """A delivery with a spool, not started; closed at the end of the test."""
    opened: list[tuple[Delivery, Spool]] = []

    def make(where: Settings = settings, worker: str = "worker-1", spool: str = "spool") -> Delivery:
        claims = make_claims(worker, where)
        heartbeat = Heartbeat(claims, {}, Watchdog(900.0))
        folder = Spool(where.spool_dir.with_name(spool))
        machine = Machine(worker, "studio", "Linux", "a chip", 2**34, {"pixelkiln": "1"})
        made = Delivery(folder, claims, Bucket.open(where, attempts=1), heartbeat, machine, where.renders_dir)
        opened.append((made, folder))
        return made

    yield make
    for delivery, folder in opened:
        if delivery._encoder.is_alive():
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
