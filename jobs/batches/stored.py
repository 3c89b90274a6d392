"""What the bucket knows of many jobs that the queue has forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pixelkiln.jobs.errors import CorruptObjectError
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.storage.objects import get_committed

if TYPE_CHECKING:
    from pixelkiln.jobs.client import Kiln

THREADS = 8


def stored(kiln: Kiln, client: str, job_ids: Sequence[str]) -> dict[str, Sidecar]:
    """The sidecars of those whose pictures are whole. Raises NotReadyError."""
    if not job_ids:
        return {}
    bucket = kiln.bucket

    def ask(job_id: str) -> Sidecar | None:
        try:
            return get_committed(bucket, client, job_id)
        except CorruptObjectError:
            return None  # whoever delivers replaces it

    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(job_ids, pool.map(ask, job_ids), strict=True))
    return {job_id: sidecar for job_id, sidecar in found.items() if sidecar is not None}
