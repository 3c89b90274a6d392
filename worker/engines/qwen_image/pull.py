"""Fetches Qwen-Image's weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from pixelkiln.worker.engines.checkpoints import pull as shared
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.sources import source_of
from pixelkiln.worker.engines.qwen_image.checkpoint import checked, weight_files
from pixelkiln.worker.engines.qwen_image.sources import SOURCES


def pull(
    model: str,
    target: Path,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
) -> Manifest:
    """See Family.pull; `endpoint` is another hub's address."""

    def inspect(folder: Path) -> tuple[Collection[int], Iterable[Path]]:
        widths = {bits for headers in checked(folder, model).values() for bits in headers.widths}
        return widths, weight_files(folder)

    return shared.pull(
        model,
        source_of(model, SOURCES),
        target,
        inspect,
        repo_id=repo_id,
        revision=revision,
        endpoint=endpoint,
    )
