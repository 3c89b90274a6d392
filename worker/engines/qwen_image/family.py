"""Qwen-Image as a family. Each part is imported when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixelkiln.worker.engines.engine import Engine, Estimate
from pixelkiln.worker.engines.family import Bench, Case, Progress, Size, Told

if TYPE_CHECKING:
    from pixelkiln.worker.engines.checkpoints.manifest import Manifest

INDEX = "model_index.json"
CLASSES = (
    "QwenImageEditPlusPipeline",
    "QwenImagePipeline",
    "QwenImageEditPipeline",
)  # the last to be refused


class QwenImage:
    """See worker.engines.family.Family."""

    configs = ("release", "small")

    def recognises(self, folder: Path) -> bool:
        """See Family.recognises."""
        try:
            return json.loads((folder / INDEX).read_bytes())["_class_name"] in CLASSES
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False

    def weight_files(self, folder: Path) -> list[Path]:
        """See Family.weight_files."""
        from pixelkiln.worker.engines.qwen_image.checkpoint import weight_files

        return weight_files(folder)

    def load(
        self, folder: Path, budget: int | None, arithmetic: str | None, calibrations: Path | None
    ) -> Engine:
        """See Family.load."""
        from pixelkiln.worker.engines.mlx.arithmetic import dtype
        from pixelkiln.worker.engines.qwen_image.engine import QwenImageEngine

        return QwenImageEngine.load(folder, budget, dtype(arithmetic), calibrations=calibrations)

    def estimate(self, folder: Path, arithmetic: str | None, calibrations: Path | None) -> Estimate:
        """See Family.estimate."""
        from pixelkiln.worker.engines.mlx.arithmetic import dtype
        from pixelkiln.worker.engines.qwen_image import estimate

        return estimate.Estimate(folder, dtype(arithmetic), calibrations=calibrations)

    def pull(self, model: str, target: Path, repo_id: str | None, revision: str | None) -> Manifest:
        """See Family.pull."""
        from pixelkiln.worker.engines.qwen_image.pull import pull

        return pull(model, target, repo_id=repo_id, revision=revision)

    def convert(
        self,
        source: Path,
        target: Path,
        bits: int,
        *,
        group_size: int,
        mixed: bool,
        model: str | None,
        progress: Progress | None,
        lora: Path | None = None,
    ) -> Manifest:
        """See Family.convert."""
        from pixelkiln.worker.engines.qwen_image.convert import convert

        return convert(
            source,
            target,
            bits,
            group_size=group_size,
            mixed=mixed,
            model=model,
            lora=lora,
            progress=progress,
        )

    def verify(self, folder: Path, golden: Path, names: Sequence[str] | None) -> list[Case]:
        """See Family.verify; errors of features, references, prediction, the worst latents and image."""
        from pixelkiln.worker.engines.qwen_image.golden import replay

        return replay(folder, golden, names)

    def bench(
        self,
        folder: Path,
        sizes: Sequence[Size],
        steps: int,
        calibrations: Path | None,
        arithmetic: str | None = None,
        told: Told | None = None,
    ) -> Bench:
        """See Family.bench: steps of text to image."""
        from pixelkiln.worker.engines.mlx.arithmetic import dtype
        from pixelkiln.worker.engines.qwen_image.bench import bench

        return bench(
            folder, sizes, calibrations=calibrations, dtype=dtype(arithmetic), steps=steps, told=told
        )

    def bench_random(
        self,
        name: str,
        sizes: Sequence[Size],
        bits: Sequence[int],
        steps: int,
        told: Told | None = None,
    ) -> Bench:
        """See Family.bench_random."""
        from pixelkiln.worker.engines.qwen_image.bench import bench_random

        return bench_random(name, sizes, bits, steps=steps, told=told)
