"""A family as a folder of modules. Importing this, and asking what a folder holds, loads no MLX."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelkiln.worker.engines.checkpoints.files import read_json
from pixelkiln.worker.engines.engine import CheckpointError, Engine, Estimate
from pixelkiln.worker.engines.family import Bench, Case, Progress, Share, Size, Told

if TYPE_CHECKING:
    from pixelkiln.worker.engines.checkpoints.manifest import Manifest


class Packaged:
    """A family whose folder has a module for each part, imported when the part is asked for.

    See Family. The modules are checkpoint, engine, estimate, pull, convert, golden and bench, each with the
    function of the same name as in all families.
    """

    package: str  # the folder's name
    engine: str  # the class in its module `engine`
    configs: Sequence[str]
    pipelines: tuple[str, ...] = ()  # what a release's model_index.json may name
    fuses = False  # whether a conversion takes a LoRA
    coarse = False  # whether its first steps can be coarse

    def recognises(self, folder: Path) -> bool:
        """See Family.recognises."""
        try:
            return read_json(folder / "model_index.json").get("_class_name") in self.pipelines
        except CheckpointError:
            return False

    def weight_files(self, folder: Path) -> list[Path]:
        """See Family.weight_files."""
        files: list[Path] = self._part("checkpoint").weight_files(folder)
        return files

    def load(
        self, folder: Path, budget: int | None, arithmetic: str | None, calibrations: Path | None
    ) -> Engine:
        """See Family.load."""
        kind = getattr(self._part("engine"), self.engine)
        engine: Engine = kind.load(folder, dtype=_dtype(arithmetic), calibrations=calibrations)
        if budget is not None:
            engine.allow(budget)
        return engine

    def estimate(self, folder: Path, arithmetic: str | None, calibrations: Path | None) -> Estimate:
        """See Family.estimate."""
        kind = self._part("estimate").Estimate
        estimate: Estimate = kind(folder, _dtype(arithmetic), calibrations=calibrations)
        return estimate

    def pull(self, model: str, target: Path, repo_id: str | None, revision: str | None) -> Manifest:
        """See Family.pull."""
        manifest: Manifest = self._part("pull").pull(model, target, repo_id=repo_id, revision=revision)
        return manifest

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
        if lora is not None and not self.fuses:
            raise CheckpointError(f"{lora}: no LoRA is fused into this model; leave out --lora")
        how = {"group_size": group_size, "mixed": mixed, "model": model, "progress": progress}
        fused = {"lora": lora} if self.fuses else {}
        manifest: Manifest = self._part("convert").convert(source, target, bits, **how, **fused)
        return manifest

    def verify(self, folder: Path, golden: Path, names: Sequence[str] | None) -> list[Case]:
        """See Family.verify; the family's module `golden` says which errors."""
        cases: list[Case] = self._part("golden").replay(folder, golden, names)
        return cases

    def bench(
        self,
        folder: Path,
        sizes: Sequence[Size],
        steps: int,
        calibrations: Path | None,
        arithmetic: str | None = None,
        told: Told | None = None,
        shares: Sequence[Share] = (),
    ) -> Bench:
        """See Family.bench; steps of text to image without guidance."""
        run = self._part("bench").bench
        how = {"calibrations": calibrations, "dtype": _dtype(arithmetic), "steps": steps, "told": told}
        found: Bench = run(folder, sizes, **how, **self._shares(shares))
        return found

    def bench_random(
        self,
        name: str,
        sizes: Sequence[Size],
        bits: Sequence[int],
        steps: int,
        told: Told | None = None,
        shares: Sequence[Share] = (),
    ) -> Bench:
        """See Family.bench_random."""
        run = self._part("bench").bench_random
        found: Bench = run(name, sizes, bits, steps=steps, told=told, **self._shares(shares))
        return found

    def _shares(self, shares: Sequence[Share]) -> dict[str, Sequence[Share]]:
        if shares and not self.coarse:
            raise CheckpointError("this model takes no coarse steps: leave out --picture")
        return {"shares": shares} if self.coarse else {}

    def _part(self, module: str) -> Any:
        return import_module(f"{__package__}.{self.package}.{module}")


def _dtype(arithmetic: str | None) -> Any:
    from pixelkiln.worker.engines.mlx.arithmetic import dtype

    return dtype(arithmetic)
