"""Converts HiDream-O1's checkpoints: released names, nothing that inference never uses."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.engines.checkpoints import convert as shared
from pixelkiln.worker.engines.checkpoints.convert import Part
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.shards import SHARD_BYTES
from pixelkiln.worker.engines.checkpoints.sources import origin
from pixelkiln.worker.engines.family import Progress
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.model import checked
from pixelkiln.worker.engines.hidream.quantize import widths
from pixelkiln.worker.engines.hidream.sources import SOURCES

UNUSED = ("lm_head.",)  # no part of inference reads it


def convert(
    source: Path,
    target: Path,
    bits: int,
    *,
    group_size: int = 64,
    mixed: bool = False,
    model: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """See Family.convert; `source` is of either layout. `revision` is the release's, where it is known."""
    manifest = origin(source, SOURCES, model, revision)
    rule = widths(bits, Config.read(source).text.num_hidden_layers, group_size, mixed)
    headers = checked(source)
    part = Part(
        {name: one for name, one in headers.stored.items() if not name.startswith(UNUSED)},
        rule,
        frozenset(headers.widths),
    )
    manifest = manifest.model_copy(update={"bits": bits, "mixed": mixed})
    return shared.convert(source, target, manifest, [part], progress, shard_bytes)
