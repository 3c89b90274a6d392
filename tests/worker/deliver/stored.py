"""What a delivery has left in the bucket and the queue."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.deliver.delivery import Delivery
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.queue.claims import Claims
from tests.waiting import until
from tests.wire import Proxy

Make = Callable[..., Claims]
Rewire = Callable[..., tuple[Settings, Proxy]]
Open = Callable[..., Delivery]
Take = Callable[[], Claim]


def objects(claim: Claim) -> tuple[str, str]:
    return keys.PICTURE(claim.lane.client, claim.job_id), keys.SIDECAR(claim.lane.client, claim.job_id)


def digest(body: bytes | None) -> str:
    return hashlib.sha256(body or b"").hexdigest()


def sidecar(bucket: Bucket, claim: Claim) -> Sidecar:
    return Sidecar.model_validate_json(bucket.get(objects(claim)[1]) or b"")


def finished(kiln: Kiln, claim: Claim) -> None:
    until(lambda: kiln.status(claim.job_id).state == "finished", "the job is finished")
