"""Converts FLUX.2-klein's checkpoints: released names and folders, nothing that inference never uses."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.engines.checkpoints import convert as shared
from pixelkiln.worker.engines.checkpoints.convert import Part
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.shards import SHARD_BYTES
from pixelkiln.worker.engines.checkpoints.sources import origin
from pixelkiln.worker.engines.family import Progress
from pixelkiln.worker.engines.flux2.checkpoint import TEXT, TOKENIZER, TRANSFORMER, VAE
from pixelkiln.worker.engines.flux2.latents import UNUSED
from pixelkiln.worker.engines.flux2.model import Config, checked
from pixelkiln.worker.engines.flux2.quantize import widths
from pixelkiln.worker.engines.flux2.recipes import recipe_of
from pixelkiln.worker.engines.flux2.sources import SOURCES
from pixelkiln.worker.engines.flux2.text import LAYERS
from pixelkiln.worker.engines.mlx.qwen3 import unused


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
    """See Family.convert. `revision` is the release's, where it is known."""
    manifest = origin(source, SOURCES, model, revision)
    recipe_of(source, manifest)
    rule, headers = widths(bits, group_size, mixed), checked(source)
    left = {TRANSFORMER: (), TEXT: unused(Config.read(source).text, LAYERS), VAE: UNUSED}
    parts = [
        Part(
            {name: one for name, one in found.stored.items() if not name.startswith(left[part])},
            None if part == VAE else rule,
            frozenset(found.widths),
            part,
        )
        for part, found in headers.items()
    ]
    beside = [Part({}, name=name) for name in ("", TOKENIZER, "scheduler") if (source / name).is_dir()]
    manifest = manifest.model_copy(update={"bits": bits, "mixed": mixed})
    return shared.convert(source, target, manifest, [*parts, *beside], progress, shard_bytes)
