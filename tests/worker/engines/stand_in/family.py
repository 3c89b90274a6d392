"""A second family, as small as can be: colours drawn from prompt and seed, in blocks of 16 pixels.

It shows that a family needs its folder, an entry in the table of families and one in the catalogue.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelkiln.jobs.catalogue import Model, Setting
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.files import write_json
from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
from pixelkiln.worker.engines.engine import CheckpointError, Engine, Estimate, Facts, Pixels, Step
from pixelkiln.worker.engines.family import Bench, Case, Progress, Row, Share, Size, Told

MODEL = Model(
    "stand-in",
    grid=16,
    min_side=80,
    max_side=512,
    max_pixels=384 * 384,
    size=(96, 80),
    steps=Setting(3, (1, 6)),
    guidance=Setting(1.0),
    quantizations=("bf16", "q8"),
)
WEIGHTS = 2**20  # bytes, as it claims
BYTES = 64  # of working memory a pixel, as it claims
NO_WEIGHTS = "sha256:" + hashlib.sha256(b"").hexdigest()


def drawn(prompt: str, seed: int, size: Size) -> NDArray[np.float64]:
    """(height, width, 3) in 0 … 1."""
    key = hashlib.sha256(f"{seed} {prompt}".encode()).digest()
    width, height = size
    random = np.random.default_rng(list(key))
    blocks = random.random((height // MODEL.grid, width // MODEL.grid, 3))
    return 0.95 * blocks.repeat(MODEL.grid, 0).repeat(MODEL.grid, 1) + 0.05 * random.random(
        (height, width, 3)
    )


def levels(picture: NDArray[np.float64]) -> Pixels:
    return np.rint(picture * 255).astype(np.uint8)


class StandInEstimate:
    def bytes_needed(self, spec: RenderSpec) -> int:
        return WEIGHTS + BYTES * spec.width * spec.height


class StandInEngine(StandInEstimate):
    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def render(self, spec: RenderSpec, references: Sequence[Image.Image] = ()) -> Iterator[Step]:
        assert spec.seed is not None
        picture = drawn(spec.prompt, spec.seed, (spec.width, spec.height))
        total = int(spec.steps or MODEL.steps.default)
        yield Step(0, total, 0.001)
        for index in range(1, total):
            yield Step(index, total, 0.001, preview=lambda: levels(picture))
        yield Step(total, total, 0.001, lambda: levels(picture), levels(picture), self.facts(total))

    def facts(self, steps: int) -> Facts:
        about = self.manifest
        return Facts(
            engine="stand-in",
            model=about.model,
            recipe=about.recipe,
            bits=about.bits,
            source=about.source,
            revision=about.revision,
            digest=about.digest,
            versions={"numpy": np.__version__},
            device="any",
            arithmetic="float64",
            linears="none",
            steps=steps,
            guidance=1.0,
            scheduler="at once",
        )

    def held_bytes(self) -> int:
        return WEIGHTS

    def allow(self, budget: int) -> None: ...

    def trim(self) -> None: ...

    def reset_peak(self) -> None: ...

    def peak_bytes(self) -> int:
        return WEIGHTS

    def close(self) -> None: ...


class StandIn:
    """See worker.engines.family.Family."""

    configs = ("one",)

    def recognises(self, folder: Path) -> bool:
        return (folder / "blocks.json").exists()

    def weight_files(self, folder: Path) -> list[Path]:
        return []

    def load(
        self, folder: Path, budget: int | None, arithmetic: str | None, calibrations: Path | None
    ) -> Engine:
        return StandInEngine(Manifest.read(folder))

    def estimate(self, folder: Path, arithmetic: str | None, calibrations: Path | None) -> Estimate:
        Manifest.read(folder)
        return StandInEstimate()

    def pull(self, model: str, target: Path, repo_id: str | None, revision: str | None) -> Manifest:
        made = Manifest(model=model, recipe="blocks", bits=16, source="none", revision="1", digest=NO_WEIGHTS)
        target.mkdir()
        write_json(target / NAME, made.model_dump(by_alias=True))
        return made

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
        if bits not in (8, 16):
            raise CheckpointError(f"{source}: 8 or 16 bits")
        made = Manifest.read(source).model_copy(update={"bits": bits})
        target.mkdir()
        write_json(target / NAME, made.model_dump(by_alias=True))
        return made

    def verify(self, folder: Path, golden: Path, names: Sequence[str] | None) -> list[Case]:
        found = drawn("a fox", 1, (96, 80))
        recorded = np.load(golden / "fox.npy")
        error = float(np.abs(found - recorded).max())
        return [Case("fox", error == 0.0, {"features": 0.0, "image": error})]

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
        return self._bench(Manifest.read(folder).bits, sizes, steps)

    def bench_random(
        self,
        name: str,
        sizes: Sequence[Size],
        bits: Sequence[int],
        steps: int,
        told: Told | None = None,
        shares: Sequence[Share] = (),
    ) -> Bench:
        return self._bench(bits[0], sizes, steps)

    def _bench(self, bits: int, sizes: Sequence[Size], steps: int) -> Bench:
        rows = []
        for size in sizes:
            started = time.perf_counter()
            drawn("x", 1, size)
            taken = max(time.perf_counter() - started, 1e-6)
            rows.append(Row(bits, "none", size, 1, (taken,) * steps, 1, 1.0, WEIGHTS, WEIGHTS))
        return Bench("any", "none", "float64", 1.0, tuple(rows))
