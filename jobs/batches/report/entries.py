"""What belongs to a batch."""

from __future__ import annotations

from pixelkiln.jobs.client import Kiln
from pixelkiln.jobs.spec import RenderSpec


def entries(kiln: Kiln, name: str) -> list[tuple[int, str, RenderSpec]]:
    """Number, job id and spec of each row, by its manifest. Raises NoSuchJobError, NotReadyError."""
    return [(entry.number, entry.id, entry.spec) for entry in kiln.open_batch(name).entries]
