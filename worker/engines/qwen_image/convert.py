"""Converts Qwen-Image's checkpoints: released names and folders, nothing that inference never uses.

A Lightning LoRA is fused on the way, before anything is quantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pixelkiln.worker.engines.checkpoints import convert as shared
from pixelkiln.worker.engines.checkpoints.convert import Part
from pixelkiln.worker.engines.checkpoints.headers import Headers
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.shards import SHARD_BYTES
from pixelkiln.worker.engines.checkpoints.sources import origin
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.family import Progress
from pixelkiln.worker.engines.qwen_image.checkpoint import ENCODER, TRANSFORMER, UNUSED, VAE, checked
from pixelkiln.worker.engines.qwen_image.config import Config
from pixelkiln.worker.engines.qwen_image.lora import Lora, described, lightning_steps
from pixelkiln.worker.engines.qwen_image.quantize import LINEAR, TEXT_LINEAR, widths
from pixelkiln.worker.engines.qwen_image.sources import SOURCES

BESIDE = ("", "processor", "scheduler", "tokenizer")


def convert(
    source: Path,
    target: Path,
    bits: int,
    *,
    group_size: int = 64,
    mixed: bool = False,
    model: str | None = None,
    revision: str | None = None,
    lora: Path | None = None,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """See Family.convert. `revision` is the release's, where it is known."""
    manifest = origin(source, SOURCES, model, revision)
    config, headers = Config.read(source), checked(source, manifest.model)
    changes: dict[str, object] = {"bits": bits, "mixed": mixed}
    fused: Lora | None = None
    if lora is not None:
        changes |= {"recipe": f"lightning-{lightning_steps(lora)}", "lora": described(lora)}
        fused = _fusible(source, manifest, headers, lora)
    rules = {
        TRANSFORMER: widths(LINEAR, bits, config.transformer.layers, group_size, mixed),
        ENCODER: widths(TEXT_LINEAR, bits, config.text.layers, group_size, mixed),
        VAE: None,
    }
    parts = [
        Part(
            {name: one for name, one in found.stored.items() if not _left(name)},
            rules[part],
            frozenset(found.widths),
            part,
            fused.deltas if fused and part == TRANSFORMER else {},
        )
        for part, found in headers.items()
    ]
    parts += [Part({}, name=name) for name in BESIDE if (source / name).is_dir()]
    manifest = manifest.model_copy(update=changes)
    return shared.convert(source, target, manifest, parts, progress, shard_bytes)


def _left(name: str) -> bool:
    return name.startswith(UNUSED) or ".time_conv." in name


def _fusible(source: Path, manifest: Manifest, headers: Mapping[str, Headers], lora: Path) -> Lora:
    if manifest.lora is not None:
        raise CheckpointError(f"{source} has {manifest.lora} in it already: convert the release")
    if headers[TRANSFORMER].widths:
        raise CheckpointError(f"{source} is quantised, and a LoRA belongs before that: convert the release")
    return Lora.read(lora, headers[TRANSFORMER].stored)
