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
from pixelkiln.worker.engines.mlx.features import Recent
from pixelkiln.worker.engines.mlx.noise import seeded
from pixelkiln.worker.engines.mlx.rendering import Measured, facts_of, steps
from pixelkiln.worker.engines.z_image.calibrate import choose
from pixelkiln.worker.engines.z_image.config import TOKENIZER
from pixelkiln.worker.engines.z_image.estimate import FEATURE_BYTES, Estimate
from pixelkiln.worker.engines.z_image.model import Model
from pixelkiln.worker.engines.z_image.pipeline import Plan, denoise, prepare
from pixelkiln.worker.engines.z_image.references import fitted
from pixelkiln.worker.engines.z_image.schedule import Schedule
from pixelkiln.worker.engines.z_image.tokens import Prompts, Tokens


class ZImageEngine(Measured):
    """See worker.engines.engine.Engine. Load, render and close it on one thread."""

    def __init__(
        self,
        folder: Path,
        budget: int | None,
        dtype: mx.Dtype | None,
        feature_bytes: int,
        calibrations: Path | None,
    ) -> None:
        self._estimate = Estimate(folder, dtype, feature_bytes, calibrations)
        config, dtype, manifest = self._estimate.config, self._estimate.dtype, self._estimate.manifest
        self._prompts = Prompts(folder / TOKENIZER, config.text.vocab_size)
        self._texts: Recent[mx.array] = Recent(feature_bytes)
        self._budget = budget
        choice = choose(calibrations, folder, config.transformer, dtype, manifest.digest)
        self._estimate.learn(choice)
        dequantize_from, self._linears = choice
        self._model: Model | None = Model(folder, config, dtype, dequantize_from)

    @classmethod
    def load(
        cls,
        folder: Path,
        budget: int | None = None,
        dtype: mx.Dtype | None = None,
        feature_bytes: int = FEATURE_BYTES,
        calibrations: Path | None = None,
    ) -> ZImageEngine:
        """Load a checkpoint folder with its kiln.json.

        `budget` is what it may hold, in bytes; None: the text encoder is kept. `dtype` is that of weights and
        activations, by default what suits the device. `calibrations` is a folder that keeps how quantised
        weights multiply faster here. Raises CheckpointError.
        """
        return cls(folder, budget, dtype, feature_bytes, calibrations)

    @property
    def prompt_runs(self) -> int:
        """How many prompts were run since loading, rather than found."""
        return self._texts.runs

    def render(self, spec: RenderSpec, references: Sequence[Image.Image] = ()) -> Iterator[Step]:
        """See Engine.render."""
        if spec.seed is None:
            raise SpecError("seed", "must be drawn before the job is rendered")
        model, started = self._loaded(), time.perf_counter()
        tokens = self._prompts.encode(spec.prompt)
        self._decide(model, spec, tokens)
        plan = self._prepare(model, spec, tokens, references)
        mx.eval(plan.arrays())
        total = plan.schedule.steps
        yield Step(0, total, time.perf_counter() - started)
        shape = (plan.grid[0] * plan.grid[1], model.config.transformer.values)
        yield from steps(
            denoise(model.transformer, plan, seeded(spec.seed, shape)),
            total,
            preview=lambda clean: model.preview(clean, plan.grid),
            decode=lambda z: model.decode(z, plan.grid),
            facts=lambda: self._facts(model, spec, tokens, total),
        )

    def bytes_needed(self, spec: RenderSpec) -> int:
        """See Engine.bytes_needed."""
        self._loaded()
        return self._estimate.bytes_needed(spec, len(self._prompts.encode(spec.prompt).ids))

    def held_bytes(self) -> int:
        """See Engine.held_bytes."""
        estimate, encoder = self._estimate, self._loaded().text_encoder
        text = estimate.text * encoder.staged.kept // estimate.config.text_layers
        return estimate.weights + text + self._texts.held

    def allow(self, budget: int) -> None:
        """See Engine.allow: the next render decides by it whether the text encoder stays."""
        self._budget = budget

    def trim(self) -> None:
        """See Engine.trim."""
        self._texts.clear()
        if self._model is not None:
            self._model.text_encoder.staged.free()
        mx.clear_cache()

    def close(self) -> None:
        """See Engine.close."""
        self.trim()
        self._model = None
        mx.clear_cache()

    def _loaded(self) -> Model:
        if self._model is None:
            raise EngineError("the engine is closed")
        return self._model

    def _decide(self, model: Model, spec: RenderSpec, tokens: Tokens) -> None:
        """Keep the text encoder where this render has room beside it; else each new prompt reads it."""
        needed = self._estimate.bytes_needed(spec, len(tokens.ids)) + self._estimate.text
        model.text_encoder.staged.keep = self._budget is None or needed <= self._budget
        if not model.text_encoder.staged.keep:
            model.text_encoder.staged.free()

    def _prepare(
        self, model: Model, spec: RenderSpec, tokens: Tokens, references: Sequence[Image.Image]
    ) -> Plan:
        if len(references) != (spec.strength is not None):
            raise SpecError("strength", "goes with one reference picture, and one with it")
        schedule = Schedule.of(
            self._estimate.recipe(spec).steps, self._estimate.recipe(spec).shift, spec.strength
        )
        text = self._texts.get(tokens.ids, partial(model.text, tokens.ids))
        size, side = (spec.width, spec.height), model.config.grid
        clean = model.encode(fitted(references[0], size)) if references else None
        grid = (size[1] // side, size[0] // side)
        return prepare(model.transformer, schedule, grid, text, len(tokens.ids), clean)

    def _facts(self, model: Model, spec: RenderSpec, tokens: Tokens, run: int) -> Facts:
        manifest, recipe = self._estimate.manifest, self._estimate.recipe(spec)
        told = {"text_encoder": model.text_encoder.staged.told}
        if tokens.warning is not None:
            told["prompt"] = tokens.warning
        if spec.strength is not None:
            told["strength"] = f"{spec.strength:g}, the last {run} steps"
        return facts_of(
            "z_image",
            manifest,
            self._estimate.dtype,
            self._linears,
            steps=recipe.steps,
            guidance=0.0,
            scheduler="flow_match",
            told=told,
        )
