"""The seam's engine: a checkpoint folder in memory that renders specs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.engine import EngineError, Facts, NonFiniteError, Pixels, Step
from pixelkiln.worker.engines.hidream import checkpoint
from pixelkiln.worker.engines.hidream.calibrate import choose
from pixelkiln.worker.engines.hidream.coarse import coarse_noise, enlarge
from pixelkiln.worker.engines.hidream.conditions import conditions
from pixelkiln.worker.engines.hidream.config import PATCH_VALUES
from pixelkiln.worker.engines.hidream.estimate import PREFIX_CACHE_BYTES, Estimate
from pixelkiln.worker.engines.hidream.flops import step_flops
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.patches import grid, to_pixels
from pixelkiln.worker.engines.hidream.pipeline import Plan, State, denoise, prepare
from pixelkiln.worker.engines.hidream.positions import Grid
from pixelkiln.worker.engines.hidream.prefixes import PrefixCache
from pixelkiln.worker.engines.hidream.references import arrange
from pixelkiln.worker.engines.hidream.seams import blend
from pixelkiln.worker.engines.hidream.tokens import Prompts
from pixelkiln.worker.engines.hidream.vision import VisionTower
from pixelkiln.worker.engines.mlx.limits import leave_room, limits
from pixelkiln.worker.engines.mlx.noise import seeded


class HiDreamEngine:
    """See worker.engines.engine.Engine. Load, render and close it on one thread."""

    def __init__(
        self,
        folder: Path,
        budget: int | None,
        dtype: mx.Dtype | None,
        prefix_cache_bytes: int,
        calibrations: Path | None,
    ) -> None:
        self._estimate = Estimate(folder, dtype, prefix_cache_bytes, calibrations)
        config, dtype, manifest = self._estimate.config, self._estimate.dtype, self._estimate.manifest
        self._prompts = Prompts(folder, config)
        self._tower = VisionTower(folder, config, dtype)
        self._prefixes = PrefixCache(prefix_cache_bytes)
        self._budget = budget
        with ExitStack() as scope:
            if budget is not None:
                scope.enter_context(limits(budget, self._estimate.weights))
            choice = choose(calibrations, folder, config, dtype, manifest.digest)
            self._estimate.learn(choice)
            dequantize_from, linears = choice
            weights = checkpoint.weights(folder, dtype, dequantize_from)
            self._model: Model | None = Model(folder, config, dtype, weights)
            self._limits = scope.pop_all()
        self._linears = linears

    @classmethod
    def load(
        cls,
        folder: Path,
        budget: int | None = None,
        dtype: mx.Dtype | None = None,
        prefix_cache_bytes: int = PREFIX_CACHE_BYTES,
        calibrations: Path | None = None,
    ) -> HiDreamEngine:
        """Load a checkpoint folder with its kiln.json.

        `budget` bounds what MLX may hold, in bytes, until the engine is closed. `dtype` is that of weights
        and activations, by default what suits the device. `calibrations` is a folder that keeps how
        quantised weights multiply faster here. Raises CheckpointError.
        """
        return cls(folder, budget, dtype, prefix_cache_bytes, calibrations)

    @property
    def prefix_runs(self) -> int:
        """How many prompt prefixes were computed since loading, rather than reused."""
        return self._prefixes.runs

    def facts(self, spec: RenderSpec) -> Facts:
        """What makes the picture of `spec`."""
        manifest, recipe = self._estimate.manifest, self._estimate.recipe(spec)
        return Facts(
            engine="hidream",
            model=manifest.model,
            recipe=manifest.recipe,
            bits=manifest.bits,
            source=manifest.source,
            revision=manifest.revision,
            digest=manifest.digest,
            versions={name: version(name) for name in ("mlx", "tokenizers")},
            device=str(mx.device_info()["device_name"]),
            arithmetic=str(self._estimate.dtype).removeprefix("mlx.core."),
            linears=self._linears,
            steps=recipe.steps,
            guidance=recipe.guidance,
            scheduler=recipe.scheduler,
            coarse_steps=spec.coarse_steps,
        )

    def render(self, spec: RenderSpec, references: Sequence[Image.Image] = ()) -> Iterator[Step]:
        """See Engine.render."""
        if spec.seed is None:
            raise SpecError("seed", "must be drawn before the job is rendered")
        model = self._loaded()
        if self._budget is not None:
            leave_room(self._budget, self.bytes_needed(spec))
        started = time.perf_counter()
        plan = self._prepare(model, spec, references)
        mx.eval([branch.prefix for branch in plan.branches], plan.times, plan.references)
        total = plan.recipe.steps
        yield Step(0, total, time.perf_counter() - started)
        noise = seeded(spec.seed, (plan.patches, PATCH_VALUES))
        small = None
        if plan.coarse is not None:
            own = seeded(spec.seed, (plan.coarse.patches, PATCH_VALUES))
            small = coarse_noise(noise, own, plan.coarse.grid, plan.grid)
        started = time.perf_counter()
        for index, state in enumerate(denoise(model, plan, noise, small), 1):
            finite = mx.isfinite(state.z).all() & mx.isfinite(state.clean).all()
            mx.eval(state.z, state.clean, finite)
            if not finite.item():
                raise NonFiniteError(index)
            seconds = time.perf_counter() - started
            step = Step(
                index,
                total,
                seconds,
                preview=partial(_preview, state, plan.grid),
                left=self._left(plan, index),
            )
            if index == total:
                started = time.perf_counter()
                pixels = blend(to_pixels(state.z, *plan.grid), spec.blend_seams)
                seconds = time.perf_counter() - started
                step = replace(step, pixels=pixels, facts=self.facts(spec), decode_seconds=seconds)
            yield step
            started = time.perf_counter()

    def bytes_needed(self, spec: RenderSpec) -> int:
        """See Engine.bytes_needed."""
        self._loaded()
        tokens = self._prompts.encode(spec.prompt, self._estimate.pads(spec))
        return self._estimate.bytes_needed(spec, len(tokens))

    def trim(self) -> None:
        """See Engine.trim."""
        self._prefixes.clear()
        mx.clear_cache()

    def reset_peak(self) -> None:
        """See Engine.reset_peak."""
        mx.reset_peak_memory()

    def peak_bytes(self) -> int:
        """See Engine.peak_bytes."""
        return mx.get_peak_memory()

    def close(self) -> None:
        """See Engine.close."""
        self._model = None
        self.trim()
        self._limits.close()

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


def _preview(state: State, grid: Grid) -> Pixels:
    """x̂0 at the picture's size, also while it is smaller."""
    return to_pixels(state.clean if state.grid == grid else enlarge(state.clean, state.grid, grid), *grid)
