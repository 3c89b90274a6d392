"""What a job's sidecar says: put together with its picture, completed when that is in the bucket."""

from __future__ import annotations

import hashlib
import time
from datetime import datetime

from pixelkiln.jobs import keys
from pixelkiln.jobs.sidecar import Checks, JobFacts, Png, Sidecar, Timings
from pixelkiln.worker.host.machine import Machine
from pixelkiln.worker.queue.claim import Claim, stamp
from pixelkiln.worker.render.rendered import Rendered


def assemble(
    rendered: Rendered, png: bytes, checks: Checks, machine: Machine, *, checking: float, encoding: float
) -> Sidecar:
    """The sidecar of an encoded picture, without what its upload will take.

    checking, encoding: seconds that went into `checks` and `png`.
    """
    claim, spec = rendered.claim, rendered.spec
    height, width = rendered.pixels.shape[:2]
    off = {"off_recipe": spec.off_recipe} if spec.off_recipe else {}
    return Sidecar(
        job=JobFacts(
            id=claim.job_id,
            client=spec.client,
            attempt=claim.attempt,
            execution=claim.execution,
            submitted_at=claim.submitted_at,
            started_at=stamp(claim.started),
            rendered_at=stamp(),
        ),
        spec=spec,
        model={"quantization": spec.quantization, **rendered.facts.record(), **off},
        versions=machine.versions,
        host=machine.host(),
        timings=Timings(
            queue_wait=queue_wait(claim),
            load=rendered.load,
            prefix=rendered.prefix,
            steps=rendered.steps,
            decode=rendered.decode,
            checks=checking,
            encode=encoding,
            upload=0.0,
            other=0.0,
            total=0.0,
        ),
        memory=rendered.memory,
        png=Png(
            key=keys.PICTURE(spec.client, claim.job_id),
            sha256=hashlib.sha256(png).hexdigest(),
            bytes=len(png),
            width=width,
            height=height,
        ),
        checks=checks,
        events=rendered.events,
    )


def complete(sidecar: Sidecar, taken: float, upload: float) -> Sidecar:
    """`sidecar`, now that its picture is in the bucket, read back and compared.

    taken: when the job was, in seconds since the epoch; upload: the seconds it took.
    """
    timings = sidecar.timings
    total = max(0.0, time.time() - taken)  # the clock may have been set back
    named = timings.load + timings.prefix + sum(timings.steps) + timings.decode
    named += timings.checks + timings.encode + upload
    timings = timings.model_copy(update={"upload": upload, "total": total, "other": max(0.0, total - named)})
    return sidecar.model_copy(update={"timings": timings})


def queue_wait(claim: Claim) -> float:
    """Seconds from submit to take, by the producer's and this machine's clocks; 0 where unknown."""
    try:
        submitted = datetime.fromisoformat(claim.submitted_at)
        return max(0.0, (claim.started - submitted).total_seconds())
    except (ValueError, TypeError):
        return 0.0
