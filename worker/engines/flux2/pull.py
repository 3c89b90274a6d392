"""Fetches FLUX.2-klein's weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from pixelkiln.worker.engines.checkpoints import pull as shared
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.sources import source_of
from pixelkiln.worker.engines.flux2.checkpoint import PARTS, weight_files
from pixelkiln.worker.engines.flux2.config import is_distilled
from pixelkiln.worker.engines.flux2.model import checked
from pixelkiln.worker.engines.flux2.sources import SOURCES


def pull(
    model: str,
    target: Path,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
) -> Manifest:
    """See Family.pull; `endpoint` is another hub's address.

    The transformer also lies in one file at the top of the release, under other names: that is not fetched.
    """
    return shared.pull(
        model,
        source_of(model, SOURCES),
        target,
        _inspect,
        repo_id=repo_id,
        revision=revision,
        endpoint=endpoint,
        parts=PARTS,
    )


def _inspect(folder: Path) -> tuple[Collection[int], Iterable[Path]]:
    is_distilled(folder)
    widths = {bits for headers in checked(folder).values() for bits in headers.widths}
    return widths, weight_files(folder)
