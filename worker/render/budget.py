"""What a worker may use of memory, what of it jobs take, and refusing what would not fit before it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker import engines
from pixelkiln.worker.engines.checkpoints.installed import Installed
from pixelkiln.worker.engines.engine import CheckpointError, Estimate
from pixelkiln.worker.host import machine

GIB = 2**30
OWN = 160 * 2**20  # bytes the process grows by beside models and pictures: mlx-vlm, connections, fragments
HANDLED = 52  # bytes a pixel while pictures are checked, encoded, stored and wait for that: worker.delivery
SIDES = (2048, 1792, 1536, 1280, 1024, 768, 512, 384, 256, 128, 64)  # pixels, of squares offered instead


class TooLargeError(SpecError):
    """A job takes more than this worker may use; one that may use `needed` bytes could render it."""

    def __init__(self, needed: int, message: str) -> None:
        super().__init__("width, height", message)
        self.needed = needed


class Budget:
    """The memory of one worker, in bytes: `total` is all, `model` what engines may hold of it together.

    The rest is the process's own: what it holds when this is made, before a model is loaded, and OWN.
    """

    def __init__(self, served: Mapping[str, Installed], settings: Settings) -> None:
        self._served = served
        self._settings = settings
        self._estimates: dict[str, Estimate] = {}
        limit = engines.device_facts().limit  # loads MLX, whose libraries are the process's own
        self.total = machine.budget(settings.memory, limit)
        self._own = machine.resident_bytes() + OWN
        self.model = max(0, self.total - self._own)

    def needed(self, spec: RenderSpec, engine: Estimate | None = None) -> int:
        """Bytes that rendering `spec` takes beside its references: exact by the loaded engine, else at least.

        Raises CheckpointError.
        """
        return self.total - self.share(spec) + self.rendering(spec, engine)

    def rendering(self, spec: RenderSpec, engine: Estimate | None = None) -> int:
        """Of these, the model's."""
        return (engine or self._estimate(f"{spec.model}:{spec.quantization}")).bytes_needed(spec)

    def share(self, spec: RenderSpec) -> int:
        """Bytes for all models and for references while `spec` is rendered; below 0 where there are none."""
        pixels = CATALOGUE[spec.model].max_pixels if spec.keep_aspect else spec.width * spec.height
        return self.total - self._own - HANDLED * pixels

    def refuse(self, spec: RenderSpec, engine: Estimate | None = None) -> None:
        """Raise TooLargeError where `spec` does not fit, naming the sizes and quantizations that do."""
        needed = self.needed(spec, engine)
        if needed <= self.total:
            return
        sides = [side for side in squares(spec.model) if side < max(spec.width, spec.height)]
        fitting = [f"{side} x {side}" for side in sides if self._fits(spec, engine, width=side, height=side)]
        lighter = [
            one.quantization
            for one in self._served.values()
            if one.model == spec.model
            and one.quantization != spec.quantization  # whose estimate, before it is loaded, is a lower bound
            and self._fits(spec, None, quantization=one.quantization)
        ]
        offers = [", ".join(fitting[:3]), lighter and f"{', '.join(lighter)} weights"]
        raise TooLargeError(
            needed,
            f"{spec.width} x {spec.height} at {spec.quantization} needs {needed / GIB:.2f} GiB; this worker"
            f" may use {self.total / GIB:.2f} GiB (KILN_MEMORY);"
            f" {' or '.join(offer for offer in offers if offer) or 'nothing it has'} would fit",
        )

    def learned(self, kind: str) -> None:
        """Look again what `kind` needs: when it is first loaded, how it multiplies here is measured."""
        self._estimates.pop(kind, None)

    def largest(self) -> dict[str, int]:
        """By kind, the side in pixels of the largest square picture that fits; 0 where none does."""
        found = {}
        for kind, one in self._served.items():
            least = {"references": ["0" * 64] * CATALOGUE[one.model].min_references}  # of one that edits
            kinds = {"model": one.model, "quantization": one.quantization}
            spec = RenderSpec.parse({"prompt": "x", **kinds, **least})
            fitting = (side for side in squares(one.model) if self._fits(spec, None, width=side, height=side))
            found[kind] = next(fitting, 0)
        return found

    def about(self) -> dict[str, str]:
        """What a worker's record says of it, for producers and for workers that have less."""
        return {"kiln_memory": str(self.total), "kiln_largest": json.dumps(self.largest())}

    def now(self) -> dict[str, str]:
        """And what of it is used now: what engines hold, and the process's own as that is counted."""
        facts = engines.device_facts()
        return {"kiln_used": str(self._own + facts.active + facts.cached)}

    def _fits(self, spec: RenderSpec, engine: Estimate | None, **changed: object) -> bool:
        try:
            return self.needed(spec.model_copy(update=changed), engine) <= self.total
        except CheckpointError:
            return False

    def _estimate(self, kind: str) -> Estimate:
        if kind not in self._estimates:
            folder = self._served[kind].folder
            try:
                found = engines.estimate(folder, self._settings.arithmetic, self._settings.cache_dir)
            except CheckpointError:
                raise
            except Exception as error:  # no fault of the job's
                raise CheckpointError(f"{folder}: {type(error).__name__}: {error}") from error
            self._estimates[kind] = found
        return self._estimates[kind]


def squares(model: str) -> list[int]:
    """Sides of the squares that are offered of a model, largest first."""
    return [side for side in SIDES if CATALOGUE[model].fits(side, side)]
