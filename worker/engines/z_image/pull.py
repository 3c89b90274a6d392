"""Fetches Z-Image's weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from pixelkiln.worker.engines.checkpoints import pull as shared
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.sources import source_of
from pixelkiln.worker.engines.z_image.checkpoint import checked, weight_files
from pixelkiln.worker.engines.z_image.config import Config
from pixelkiln.worker.engines.z_image.recipes import recipe_in
from pixelkiln.worker.engines.z_image.sources import SOURCES


def pull(
    model: str,
    target: Path,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
) -> Manifest:
    """See Family.pull; `endpoint` is another hub's address."""
    return shared.pull(
        model,
        source_of(model, SOURCES),
        target,
        _inspect,
        repo_id=repo_id,
        revision=revision,
        endpoint=endpoint,
    )


def _inspect(folder: Path) -> tuple[Collection[int], Iterable[Path]]:
    config = Config.read(folder)
    recipe_in(folder, config)
    return checked(folder, config).widths, weight_files(folder)
