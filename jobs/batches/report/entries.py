"""What belongs to a batch."""

from __future__ import annotations

from pixelkiln.jobs import keys
from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.errors import NoSuchJobError
from pixelkiln.jobs.queue.record import check_job_id
from pixelkiln.jobs.spec import RenderSpec


def entries(kiln: Kiln, name: str) -> list[tuple[int, str, RenderSpec]]:
    """Number, job id and spec of each row, as Redis lists them. Raises NoSuchJobError, NotReadyError."""
    kiln.farm()  # says what is wrong with Redis, if so
    ids = [one.decode("utf-8", "replace") for one in kiln.redis.sscan_iter(keys.GROUP(check_job_id(name)))]
    statuses = kiln._queue.statuses(ids)
    specs = kiln._queue.specs(ids)
    order = {job_id: (one.submitted_at if one else "", job_id) for job_id, one in statuses.items()}
    known = [(job_id, spec) for job_id in sorted(ids, key=order.__getitem__) if (spec := specs.get(job_id))]
    if not known:
        raise NoSuchJobError(f"no batch {name!r} is known")
    return [(number, job_id, spec) for number, (job_id, spec) in enumerate(known, 1)]
