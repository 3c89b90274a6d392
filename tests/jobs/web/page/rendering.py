"""Jobs rendered by a worker's own hand, but for the rendering: taken, stored and settled as it does."""

from __future__ import annotations

from datetime import UTC, datetime

from pixelkiln import Kiln
from pixelkiln.jobs import keys
from pixelkiln.jobs.queue.record import spec_in
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.testing.placeholder import picture, png_of, sidecar_of
from pixelkiln.worker.queue.claim import Claim, stamp
from pixelkiln.worker.queue.claims import Claims

KIND = "demo:bf16"


def take(claims: Claims) -> Claim | None:
    """The next job."""
    return claims.take([KIND], [KIND])


def store(kiln: Kiln, claim: Claim, warnings: tuple[str, ...] = ()) -> Sidecar:
    """Its picture and its record, in the bucket."""
    spec = spec_in(claim.data).with_seed(claim.job_id)
    now = stamp(datetime.now(UTC))
    status = JobStatus(
        claim.job_id,
        "started",
        attempt=claim.attempt,
        worker="mac-1",
        submitted_at=claim.submitted_at,
        started_at=stamp(claim.started),
        ended_at=now,
    )
    image = picture(spec)
    png = png_of(image)
    made = sidecar_of(status, spec, image, png, 2)
    made = made.model_copy(update={"checks": made.checks.model_copy(update={"warnings": list(warnings)})})
    kiln.bucket.put(made.png.key, png, "image/png")
    body = made.model_dump_json().encode()
    kiln.bucket.put(keys.SIDECAR(spec.client, claim.job_id), body, "application/json")
    return made


def settle(claims: Claims, claim: Claim, made: Sidecar) -> None:
    """Its end."""
    record = keys.SIDECAR(claim.lane.client, claim.job_id)
    claims.finish(claim, {"png": made.png.key, "sidecar": record, "sha256": made.png.sha256}, 1.0)


def render(kiln: Kiln, warnings: tuple[str, ...] = ()) -> list[str]:
    """Render all that waits; the ids, in the order in which they were done."""
    claims, done = Claims(kiln.redis, "mac-1"), []
    while (claim := take(claims)) is not None:
        settle(claims, claim, store(kiln, claim, warnings))
        done.append(claim.job_id)
    return done


def fail(kiln: Kiln, why: str) -> str:
    """Let the next job fail; its id."""
    claims = Claims(kiln.redis, "mac-1")
    claim = take(claims)
    assert claim is not None
    claims.fail(claim, why, 1.0)
    return claim.job_id
