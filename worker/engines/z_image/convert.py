"""Converts Z-Image's checkpoints: the release's layout and names, nothing that no render uses."""

from __future__ import annotations

from pathlib import Path

from pixelkiln.worker.engines.checkpoints import convert as shared
from pixelkiln.worker.engines.checkpoints.convert import Part
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.shards import SHARD_BYTES
from pixelkiln.worker.engines.checkpoints.sources import origin
from pixelkiln.worker.engines.family import Progress
from pixelkiln.worker.engines.mlx.qwen3 import unused
from pixelkiln.worker.engines.z_image.checkpoint import checked
from pixelkiln.worker.engines.z_image.config import SCHEDULER, TEXT, TOKENIZER, VAE, Config
from pixelkiln.worker.engines.z_image.quantize import widths
from pixelkiln.worker.engines.z_image.recipes import recipe_in
from pixelkiln.worker.engines.z_image.sources import SOURCES


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
    config = Config.read(source)
    recipe_in(source, config, manifest.recipe)
    headers = checked(source, config).headers
    dropped = {TEXT: unused(config.text, config.text_layers)}
    parts = [Part({}), Part({}, name=TOKENIZER), Part({}, name=SCHEDULER)]
    for name, one in headers.items():
        kept = {key: at for key, at in one.stored.items() if not key.startswith(dropped.get(name, ()))}
        rule = None if name == VAE else widths(name, config, bits, group_size, mixed)
        parts.append(Part(kept, rule, frozenset(one.widths), name))
    manifest = manifest.model_copy(update={"bits": bits, "mixed": mixed})
    return shared.convert(source, target, manifest, parts, progress, shard_bytes)
