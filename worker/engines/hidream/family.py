"""HiDream-O1 as a family. Each part is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixelkiln.worker.engines.engine import Engine, Estimate
from pixelkiln.worker.engines.family import Bench, Case, Progress, Size, Told
from pixelkiln.worker.engines.hidream.configs import CONFIGS

if TYPE_CHECKING:
    from pixelkiln.worker.engines.checkpoints.manifest import Manifest


class HiDream:
    """See worker.engines.family.Family."""

    configs = tuple(CONFIGS)

    def recognises(self, folder: Path) -> bool:
        """See Family.recognises."""
        return (folder / "config.json").exists()

    def weight_files(self, folder: Path) -> list[Path]:
        """See Family.weight_files."""
        from pixelkiln.worker.engines.hidream.checkpoint import weight_files

        return weight_files(folder)

    def load(
        self, folder: Path, budget: int | None, arithmetic: str | None, calibrations: Path | None
    ) -> Engine:
        """See Family.load."""
        from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
        from pixelkiln.worker.engines.mlx.arithmetic import dtype

        return HiDreamEngine.load(folder, dtype(arithmetic), calibrations=calibrations)

    def estimate(self, folder: Path, arithmetic: str | None, calibrations: Path | None) -> Estimate:
        """See Family.estimate."""
        from pixelkiln.worker.engines.hidream import estimate
        from pixelkiln.worker.engines.mlx.arithmetic import dtype

        return estimate.Estimate(folder, dtype(arithmetic), calibrations=calibrations)

    def pull(self, model: str, target: Path, repo_id: str | None, revision: str | None) -> Manifest:
        """See Family.pull."""
        from pixelkiln.worker.engines.hidream.pull import pull

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
    ) -> Manifest:
        """See Family.convert."""
        from pixelkiln.worker.engines.hidream.convert import convert

        return convert(
            source, target, bits, group_size=group_size, mixed=mixed, model=model, progress=progress
        )

    def verify(self, folder: Path, golden: Path, names: Sequence[str] | None) -> list[Case]:
        """See Family.verify; errors of `x_pred`, the worst `z` and `image`, in levels."""
        from pixelkiln.worker.engines.hidream.golden import replay

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
        """See Family.bench: steps of the dev recipe, text to image."""
        from pixelkiln.worker.engines.hidream.bench import bench
        from pixelkiln.worker.engines.mlx.arithmetic import dtype

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
        from pixelkiln.worker.engines.hidream.bench import bench_random

        return bench_random(name, sizes, bits, steps=steps, told=told)
