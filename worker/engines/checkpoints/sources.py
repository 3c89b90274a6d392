"""Where a model's weights are published, and whose weights a folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
from pixelkiln.worker.engines.engine import CheckpointError


@dataclass(frozen=True, slots=True)
class Source:
    """A repository on the Hugging Face hub."""

    repo_id: str
    revision: str  # commit
    recipe: str  # that its weights follow


def source_of(model: str, sources: Mapping[str, Source]) -> Source:
    """Where `model` is published. Raises CheckpointError for one that is not."""
    if model not in sources:
        raise CheckpointError(f"{model} has no known weights: choose one of {', '.join(sources)}")
    return sources[model]


def origin(
    folder: Path, sources: Mapping[str, Source], model: str | None = None, revision: str | None = None
) -> Manifest:
    """The folder's kiln.json, or one made for the 16-bit weights that `model` says it holds.

    `revision` is that of the published weights, where it is known. Raises CheckpointError where nothing says
    whose the weights are, or two say different things.
    """
    if (folder / NAME).exists():
        known = Manifest.read(folder)
        if model not in (None, known.model):
            raise CheckpointError(f"{folder / NAME} says {known.model}, not {model}")
        return known
    published = None if model is None else sources.get(model)
    if model is None or published is None:
        raise CheckpointError(
            f"{folder} has no {NAME}, so nothing says which model its weights are: name one of "
            f"{', '.join(sources)}"
        )
    return Manifest(
        model=model,
        recipe=published.recipe,
        bits=16,
        source=folder.resolve().name if revision is None else published.repo_id,
        revision=revision or "unknown",
        digest="sha256:" + "0" * 64,
    )
