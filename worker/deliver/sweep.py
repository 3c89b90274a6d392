"""Take out of the bucket what workers left there of jobs that ended without a picture.

A worker may die, or be frozen, between picture and sidecar, or after both, and the job be cancelled then:
whoever is left sweeps. Producers may write records, so these alone are not believed: what has a sidecar goes
only where that names an execution which workers saw end unsettled.
"""

from __future__ import annotations

import logging
import re
from hashlib import sha256

from pydantic import ValidationError

from pixelkiln.jobs import keys
from pixelkiln.jobs.queue.record import JOB_ID
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.spec import NAME_PATTERN
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker.queue.strays import Stray, Strays

log = logging.getLogger("kiln.delivery")


def sweep(bucket: Bucket, strays: Strays, stray: Stray) -> None:
    """Clear one job's two keys of what its executions left. Raises what the bucket and Redis do.

    Both are looked at before Redis is asked once more, and deleted as they were seen: had the job been taken
    up since, its new owner's objects would stay.
    """
    if not (JOB_ID.fullmatch(stray.job_id) and re.fullmatch(NAME_PATTERN, stray.client)):
        return
    sidecar, picture = keys.SIDECAR(stray.client, stray.job_id), keys.PICTURE(stray.client, stray.job_id)
    record, png = bucket.head(sidecar), bucket.head(picture)
    found = _read(bucket.get(sidecar)) if record else None
    if record and (found is None or found.job.execution not in stray.executions):
        return
    body = bucket.get(picture) if found and png else None
    whole = found is not None and body is not None and sha256(body).hexdigest() == found.png.sha256
    if not (record or png) or not strays.abandoned(stray.job_id, stored=whole):
        return
    log.info("job %s has no picture; what a worker left of one is deleted", stray.job_id)
    if record and not bucket.delete(sidecar, seen=record.etag):
        return
    if png:
        bucket.delete(picture, seen=png.etag)


def _read(body: bytes | None) -> Sidecar | None:
    try:
        return Sidecar.model_validate_json(body or b"")
    except ValidationError:
        return None
