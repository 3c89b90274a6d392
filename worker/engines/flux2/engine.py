"""The seam's engine: a checkpoint folder in memory that renders specs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlx.core as mx
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.engine import EngineError, Facts, Step
from pixelkiln.worker.engines.flux2.calibrate import choose
from pixelkiln.worker.engines.flux2.checkpoint import TOKENIZER
from pixelkiln.worker.engines.flux2.conditions import encoded
from pixelkiln.worker.engines.flux2.estimate import FEATURE_BYTES, Estimate
from pixelkiln.worker.engines.flux2.model import Model
from pixelkiln.worker.engines.flux2.pipeline import Plan, denoise, prepare
from pixelkiln.worker.engines.flux2.recipes import SCHEDULER
from pixelkiln.worker.engines.flux2.references import prepared
from pixelkiln.worker.engines.flux2.schedule import TOKEN
from pixelkiln.worker.engines.flux2.text import LAYERS, features
from pixelkiln.worker.engines.flux2.tokens import LENGTH, Prompts
from pixelkiln.worker.engines.mlx.features import Recent
from pixelkiln.worker.engines.mlx.noise import seeded
from pixelkiln.worker.engines.mlx.rendering import Measured, facts_of, steps


class Flux2Engine(Measured):
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
        self._features: Recent[mx.array] = Recent(feature_bytes)
        self._budget = budget
        choice = choose(calibrations, folder, config.transformer, dtype, manifest.digest)
        self._estimate.learn(choice)
        dequantize_from, self._linears = choice
        self._model: Model | None = Model(folder, config, dtype, dequantize_from=dequantize_from)

    @classmethod
    def load(
        cls,
        folder: Path,
        budget: int | None = None,
        dtype: mx.Dtype | None = None,
        feature_bytes: int = FEATURE_BYTES,
        calibrations: Path | None = None,
    ) -> Flux2Engine:
        """Load a checkpoint folder with its kiln.json.

        `budget` is what it may hold, in bytes; None: the text encoder is kept. `dtype` is that of weights and
        activations, by default what suits the device. `calibrations` is a folder that keeps how quantised
        weights multiply faster here. Raises CheckpointError.
        """
        return cls(folder, budget, dtype, feature_bytes, calibrations)

    @property
    def prompt_runs(self) -> int:
        """How many prompts were run since loading, rather than found."""
        return self._features.runs

    def render(self, spec: RenderSpec, references: Sequence[Image.Image] = ()) -> Iterator[Step]:
        """See Engine.render."""
        if spec.seed is None:
            raise SpecError("seed", "must be drawn before the job is rendered")
        model, started = self._loaded(), time.perf_counter()
        self._decide(model, spec)
        plan = self._prepare(model, spec, references)
        mx.eval(plan.texts, plan.references, plan.turn.cos, plan.turn.sin)
        total = plan.recipe.steps
        yield Step(0, total, time.perf_counter() - started)
        noise = seeded(spec.seed, (plan.tokens, model.config.transformer.channels))
        yield from steps(
            denoise(model.transformer, plan, noise),
            total,
            preview=lambda clean: model.vae.preview(clean, plan.grid),
            decode=lambda z: model.vae.decode(z, plan.grid),
            facts=lambda: self._facts(model, spec),
        )

    def bytes_needed(self, spec: RenderSpec) -> int:
        """See Engine.bytes_needed."""
        self._loaded()
        return self._estimate.bytes_needed(spec)

    def held_bytes(self) -> int:
        """See Engine.held_bytes."""
        text = self._estimate.text * self._loaded().text.staged.kept // LAYERS
        return self._estimate.weights + text + self._features.held

    def allow(self, budget: int) -> None:
        """See Engine.allow: the next render decides by it whether the text encoder stays."""
        self._budget = budget

    def trim(self) -> None:
        """See Engine.trim."""
        self._features.clear()
        if self._model is not None:
            self._model.text.staged.free()
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

    def _decide(self, model: Model, spec: RenderSpec) -> None:
        """Keep the text encoder where this render has room beside it; else each new prompt reads it."""
        needed = self._estimate.bytes_needed(spec) + self._estimate.text
        model.text.staged.keep = self._budget is None or needed <= self._budget
        if not model.text.staged.keep:
            model.text.staged.free()

    def _prepare(self, model: Model, spec: RenderSpec, references: Sequence[Image.Image]) -> Plan:
        recipe = self._estimate.recipe.of(spec)
        prompts = (spec.prompt, "") if recipe.guided else (spec.prompt,)
        pictures = [prepared(picture) for picture in references]
        texts = [self._encoded(model, prompt) for prompt in prompts]
        found = encoded(model.vae, pictures) if pictures else None
        return prepare(model.transformer, recipe, (spec.height // TOKEN, spec.width // TOKEN), texts, found)

    def _encoded(self, model: Model, prompt: str) -> mx.array:
        tokens = self._prompts.encode(prompt)
        return self._features.get(tokens.ids, lambda: features(model.text, tokens))

    def _facts(self, model: Model, spec: RenderSpec) -> Facts:
        manifest, recipe = self._estimate.manifest, self._estimate.recipe.of(spec)
        told = {"text_encoder": model.text.staged.told}
        lost = self._prompts.encode(spec.prompt).lost
        if lost:
            told["prompt"] = f"{lost} tokens of it and its template were cut: {LENGTH} is the most"
        return facts_of(
            "flux2",
            manifest,
            self._estimate.dtype,
            self._linears,
            steps=recipe.steps,
            guidance=recipe.guidance,
            scheduler=SCHEDULER,
            told=told,
        )
