"""The seam's engine: a checkpoint folder in memory that renders specs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.engine import EngineError, Facts, Step
from pixelkiln.worker.engines.hidream import checkpoint
from pixelkiln.worker.engines.hidream.calibrate import choose
from pixelkiln.worker.engines.hidream.conditions import conditions
from pixelkiln.worker.engines.hidream.estimate import PREFIX_CACHE_BYTES, Estimate
from pixelkiln.worker.engines.hidream.flops import step_flops
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.patches import grid, to_pixels
from pixelkiln.worker.engines.hidream.pipeline import Plan, denoise, noises, prepare
from pixelkiln.worker.engines.hidream.prefixes import PrefixCache
from pixelkiln.worker.engines.hidream.references import arrange
from pixelkiln.worker.engines.hidream.seams import blend
from pixelkiln.worker.engines.hidream.tokens import Prompts
from pixelkiln.worker.engines.hidream.vision import VisionTower
from pixelkiln.worker.engines.mlx.rendering import Measured, facts_of, steps


class HiDreamEngine(Measured):
    """See worker.engines.engine.Engine. Load, render and close it on one thread."""

    def __init__(
        self,
        folder: Path,
        dtype: mx.Dtype | None,
        prefix_cache_bytes: int,
        calibrations: Path | None,
    ) -> None:
        self._estimate = Estimate(folder, dtype, prefix_cache_bytes, calibrations)
        config, dtype, manifest = self._estimate.config, self._estimate.dtype, self._estimate.manifest
        self._prompts = Prompts(folder, config)
        self._tower = VisionTower(folder, config, dtype)
        self._prefixes = PrefixCache(prefix_cache_bytes)
        choice = choose(calibrations, folder, config, dtype, manifest.digest)
        self._estimate.learn(choice)
        dequantize_from, self._linears = choice
        weights = checkpoint.weights(folder, dtype, dequantize_from)
        self._model: Model | None = Model(folder, config, dtype, weights)

    @classmethod
    def load(
        cls,
        folder: Path,
        dtype: mx.Dtype | None = None,
        prefix_cache_bytes: int = PREFIX_CACHE_BYTES,
        calibrations: Path | None = None,
    ) -> HiDreamEngine:
        """Load a checkpoint folder with its kiln.json.

        `dtype` is that of weights and activations, by default what suits the device. `calibrations` is a
        folder that keeps how quantised weights multiply faster here. Raises CheckpointError.
        """
        return cls(folder, dtype, prefix_cache_bytes, calibrations)

    @property
    def prefix_runs(self) -> int:
        """How many prompt prefixes were computed since loading, rather than reused."""
        return self._prefixes.runs

    def facts(self, spec: RenderSpec) -> Facts:
        """What makes the picture of `spec`."""
        manifest, recipe = self._estimate.manifest, self._estimate.recipe(spec)
        return facts_of(
            "hidream",
            manifest,
            self._estimate.dtype,
            self._linears,
            steps=recipe.steps,
            guidance=recipe.guidance,
            scheduler=recipe.scheduler,
            told={"coarse_steps": str(spec.coarse_steps)} if spec.coarse_steps else None,
        )

    def render(self, spec: RenderSpec, references: Sequence[Image.Image] = ()) -> Iterator[Step]:
        """See Engine.render."""
        if spec.seed is None:
            raise SpecError("seed", "must be drawn before the job is rendered")
        model = self._loaded()
        started = time.perf_counter()
        plan = self._prepare(model, spec, references)
        mx.eval([branch.prefix for branch in plan.branches], plan.times, plan.references)
        total = plan.recipe.steps
        yield Step(0, total, time.perf_counter() - started)
        yield from steps(
            denoise(model, plan, *noises(plan, spec.seed)),
            total,
            preview=lambda clean: to_pixels(plan.whole(clean), *plan.grid),
            decode=lambda z: blend(to_pixels(z, *plan.grid), spec.blend_seams),
            facts=lambda: self.facts(spec),
            left=partial(self._left, plan),
        )

    def bytes_needed(self, spec: RenderSpec) -> int:
        """See Engine.bytes_needed."""
        self._loaded()
        tokens = self._prompts.encode(spec.prompt, self._estimate.pads(spec))
        return self._estimate.bytes_needed(spec, len(tokens))

    def held_bytes(self) -> int:
        """See Engine.held_bytes."""
        return self._estimate.weights + self._prefixes.held

    def allow(self, budget: int) -> None:
        """See Engine.allow: prefixes have a bound of their own, which is always counted."""

    def trim(self) -> None:
        """See Engine.trim."""
        self._prefixes.clear()
        mx.clear_cache()

    def close(self) -> None:
        """See Engine.close."""
        self._model = None
        self.trim()

    def _loaded(self) -> Model:
        if self._model is None:
            raise EngineError("the engine is closed")
        return self._model

    def _left(self, plan: Plan, index: int) -> float | None:
        """See Step: after a coarse step, by the arithmetic of both."""
        if plan.coarse is None or index > plan.coarse_steps:
            return None
        prompt = len(plan.branches[0].ids) - 1
        fine, coarse = (
            step_flops(self._estimate.config.text, prompt, of.patches) for of in (plan, plan.coarse)
        )
        return plan.coarse_steps - index + (plan.recipe.steps - plan.coarse_steps) * fine / coarse

    def _prepare(self, model: Model, spec: RenderSpec, references: Sequence[Image.Image]) -> Plan:
        recipe = self._estimate.recipe(spec)
        size, pictures = (spec.width, spec.height), None
        if references:
            boxes = [(box.x1, box.x2, box.y1, box.y2) for box in spec.layout]
            arranged = arrange(references, size, boxes, spec.keep_aspect)
            size, pictures = arranged.size, conditions(self._tower, arranged.pictures)
        elif spec.layout or spec.keep_aspect:
            field = "layout" if spec.layout else "keep_aspect"
            raise SpecError(field, "needs reference pictures")
        text, cells = spec.prompt, grid(*size)
        coarse = self._estimate.coarse_steps(spec)
        return prepare(model, self._prompts, self._prefixes, recipe, text, cells, pictures, coarse)
