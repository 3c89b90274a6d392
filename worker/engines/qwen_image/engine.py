"""The seam's engine: a checkpoint folder in memory that renders specs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx
import numpy as np
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.engine import EngineError, Facts, Pixels, Step
from pixelkiln.worker.engines.mlx.features import size_of
from pixelkiln.worker.engines.mlx.noise import noise_key
from pixelkiln.worker.engines.mlx.rendering import Measured, facts_of, steps
from pixelkiln.worker.engines.qwen_image import checkpoint
from pixelkiln.worker.engines.qwen_image.calibrate import choose
from pixelkiln.worker.engines.qwen_image.conditions import (
    FEATURE_BYTES,
    PICTURE_BYTES,
    Conditioner,
)
from pixelkiln.worker.engines.qwen_image.config import PATCH
from pixelkiln.worker.engines.qwen_image.encoder import TextEncoder
from pixelkiln.worker.engines.qwen_image.estimate import Estimate
from pixelkiln.worker.engines.qwen_image.modulation import Table, table
from pixelkiln.worker.engines.qwen_image.packing import Grid, grid, pack, unpack
from pixelkiln.worker.engines.qwen_image.pipeline import Plan, denoise, prepare
from pixelkiln.worker.engines.qwen_image.recipes import NEGATIVE
from pixelkiln.worker.engines.qwen_image.references import Preprocessing, References
from pixelkiln.worker.engines.qwen_image.tokens import Prompts
from pixelkiln.worker.engines.qwen_image.transformer import Transformer


class QwenImageEngine(Measured):
    """See worker.engines.engine.Engine. Load, render and close it on one thread."""

    def __init__(
        self,
        folder: Path,
        budget: int | None,
        dtype: mx.Dtype | None,
        feature_bytes: int,
        picture_bytes: int,
        calibrations: Path | None,
    ) -> None:
        self._estimate = Estimate(folder, dtype, feature_bytes, picture_bytes, calibrations)
        config, dtype, manifest = self._estimate.config, self._estimate.dtype, self._estimate.manifest
        self._budget = budget
        stored = checkpoint.tensors(folder, checkpoint.TRANSFORMER)
        choice = choose(calibrations, stored, config.transformer, dtype, manifest.digest)
        self._estimate.learn(choice)
        dequantize_from, self._linears = choice
        self._opened = partial(Weights, folder, stored, dtype, dequantize_from)
        checkpoint.checked(folder, manifest.model)  # some parts are read only when they are needed
        self._model: Transformer | None = checkpoint.transformer(config, self._opened())
        self._vae = checkpoint.autoencoder(folder, config, dtype)
        encoder = TextEncoder(
            folder, checkpoint.tensors(folder, checkpoint.ENCODER), config, dtype, False, dequantize_from
        )
        prompts = Prompts(folder, config)
        references = None
        if config.edits:
            seen = Preprocessing.read(folder, config.vision)
            references = References(config.vision, seen, self._estimate.areas)
        self._conditioner = Conditioner(prompts, references, encoder, self._vae, feature_bytes, picture_bytes)
        self._table: tuple[tuple[float, ...], Table] | None = None  # of the last schedule

    @classmethod
    def load(
        cls,
        folder: Path,
        budget: int | None = None,
        dtype: mx.Dtype | None = None,
        feature_bytes: int = FEATURE_BYTES,
        picture_bytes: int = PICTURE_BYTES,
        calibrations: Path | None = None,
    ) -> QwenImageEngine:
        """Load a checkpoint folder with its kiln.json.

        `budget` is what it may hold, in bytes: where that has room the text encoder stays after its first
        prompt. `dtype` is that of weights and activations, by default what suits the device. `calibrations`
        is a folder that keeps how quantised weights multiply faster here. Raises CheckpointError.
        """
        return cls(folder, budget, dtype, feature_bytes, picture_bytes, calibrations)

    @property
    def feature_runs(self) -> int:
        """How often the text encoder ran since loading, rather than its features being reused."""
        return self._conditioner.runs

    def facts(self, spec: RenderSpec) -> Facts:
        """What makes the picture of `spec`."""
        manifest, recipe = self._estimate.manifest, self._estimate.recipe(spec)
        told = {"text_encoder": self._conditioner.encoder.told}
        if manifest.lora is not None:
            told["lora"] = manifest.lora
        return facts_of(
            "qwen_image",
            manifest,
            self._estimate.dtype,
            self._linears,
            steps=recipe.steps,
            guidance=recipe.guidance,
            scheduler=recipe.scheduler,
            told=told,
        )

    def render(self, spec: RenderSpec, references: Sequence[Image.Image] = ()) -> Iterator[Step]:
        """See Engine.render."""
        if spec.seed is None:
            raise SpecError("seed", "must be drawn before the job is rendered")
        model = self._loaded()
        self._conditioner.encoder.keep(self._keeps(spec))
        started = time.perf_counter()
        plan = self._prepare(model, spec, references)
        mx.eval([branch.text for branch in plan.branches], plan.references)
        total = len(plan.sigmas) - 1
        yield Step(0, total, time.perf_counter() - started)
        yield from steps(
            denoise(model, plan, self._noise(spec.seed, plan.grid)),
            total,
            preview=lambda clean: self._pixels(clean, plan.grid),
            decode=lambda z: self._pixels(z, plan.grid),
            facts=lambda: self.facts(spec),
        )

    def bytes_needed(self, spec: RenderSpec) -> int:
        """See Engine.bytes_needed."""
        self._loaded()
        return self._estimate.bytes_needed(spec, self._tokens(spec))

    def held_bytes(self) -> int:
        """See Engine.held_bytes."""
        kept = 0 if self._table is None else size_of(self._table[1].arrays)
        return self._estimate.weights + self._conditioner.held + kept

    def allow(self, budget: int) -> None:
        """See Engine.allow: the text encoder stays where there is room for it."""
        self._budget = budget

    def trim(self) -> None:
        """See Engine.trim."""
        self._conditioner.clear()
        self._conditioner.encoder.keep(False)
        self._table = None
        mx.clear_cache()

    def close(self) -> None:
        """See Engine.close."""
        self.trim()
        self._model = None
        del self._vae, self._conditioner

    def _loaded(self) -> Transformer:
        if self._model is None:
            raise EngineError("the engine is closed")
        return self._model

    def _keeps(self, spec: RenderSpec) -> bool:
        """Whether the text encoder may stay in memory beside what `spec` needs."""
        if self._budget is None:
            return True
        return self._estimate.bytes_needed(spec, self._tokens(spec), kept=True) <= self._budget

    def _texts(self, spec: RenderSpec) -> list[tuple[str, str]]:
        """Each branch's prompt, behind the field that it comes from."""
        second = NEGATIVE if spec.negative_prompt is None else spec.negative_prompt
        guided = self._estimate.recipe(spec).guided
        return [("prompt", spec.prompt), *([("negative_prompt", second)] if guided else [])]

    def _tokens(self, spec: RenderSpec) -> list[int]:
        """Each branch's tokens, at most."""
        pads = [(1, self._estimate.pads)] * len(spec.references)
        prompts = self._conditioner.prompts
        return [len(prompts.encode(text, bool(pads), pads, field).ids) for field, text in self._texts(spec)]

    def _prepare(self, model: Transformer, spec: RenderSpec, references: Sequence[Image.Image]) -> Plan:
        if references and not self._estimate.config.edits:
            raise SpecError("references", f"{self._estimate.manifest.model} draws from a prompt alone")
        recipe, target = self._estimate.recipe(spec), grid(spec.width, spec.height)
        sigmas = recipe.sigmas(self._estimate.config.schedule, target[0] * target[1])
        prompts, seen = self._conditioner.prompts, None
        if references:
            seen = self._conditioner.see(references)
        encoded = [
            prompts.encode(text, bool(references), seen.tokens if seen else (), field)
            for field, text in self._texts(spec)
        ]
        features = self._conditioner.features(encoded, seen)
        latents = seen.latents if seen else ()
        made = self._table_of(sigmas[:-1])
        return prepare(model, features, target, latents, sigmas, recipe.guidance, made)

    def _table_of(self, sigmas: tuple[float, ...]) -> Table:
        """The vectors of a schedule: the last one's, or made anew."""
        if self._table is None or self._table[0] != sigmas:
            self._table = None  # before the next is made
            self._table = sigmas, table(self._opened, self._estimate.config.transformer, sigmas)
            mx.clear_cache()  # of the weights that were read for it
        return self._table[1]

    def _noise(self, seed: int, target: Grid) -> mx.array:
        rows, columns = target
        shape = (self._estimate.config.vae.channels, rows * PATCH, columns * PATCH)
        return pack(mx.random.normal(shape, mx.float32, key=noise_key(seed, 0)))

    def _pixels(self, tokens: mx.array, target: Grid) -> Pixels:
        return np.array(self._vae.decode(unpack(tokens, target)))
