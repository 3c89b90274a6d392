"""What a render needs of memory, by a checkpoint folder's config and file headers: nothing is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.calibrate import NEVER, Choice
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.memory import Backend, weight_bytes
from pixelkiln.worker.engines.mlx.qwen3 import TABLE, unused
from pixelkiln.worker.engines.z_image.calibrate import known
from pixelkiln.worker.engines.z_image.checkpoint import tensors
from pixelkiln.worker.engines.z_image.config import TEXT, TRANSFORMER, VAE, Config
from pixelkiln.worker.engines.z_image.memory import Load, dequantized_bytes, working_bytes
from pixelkiln.worker.engines.z_image.recipes import Recipe, recipe_in

FEATURE_BYTES = 64 * 2**20  # of prompts that ran: 16 of 512 tokens of the release in bfloat16


class Estimate:
    """See worker.engines.engine.Estimate. Raises CheckpointError for a folder that cannot be read."""

    def __init__(
        self,
        folder: Path,
        dtype: mx.Dtype | None = None,
        feature_bytes: int = FEATURE_BYTES,
        calibrations: Path | None = None,
    ) -> None:
        self.manifest = Manifest.read(folder)
        self.config = Config.read(folder)
        self._recipe = recipe_in(folder, self.config, self.manifest.recipe)
        self.dtype = dtype or default_dtype()
        self.feature_bytes = feature_bytes
        itemsize = self.dtype.size
        vae, text = tensors(folder, VAE), tensors(folder, TEXT)
        decoder = [one for name, one in vae.items() if not name.startswith("encoder.")]
        encoder = [one for name, one in vae.items() if not name.startswith("decoder.")]
        self.weights = weight_bytes(tensors(folder, TRANSFORMER).values(), itemsize)  # bytes that stay
        self.weights += weight_bytes(decoder, itemsize)
        self._encoder = weight_bytes(encoder, itemsize)
        dropped = (TABLE, *unused(self.config.text, self.config.text_layers))
        layers = [one for name, one in text.items() if not name.startswith(dropped)]
        self.text = weight_bytes(layers, itemsize)  # bytes, where the encoder is kept
        self._dequantized = 0
        choice = known(calibrations, folder, self.config.transformer, self.dtype, self.manifest.digest)
        if choice is not None:
            self.learn(choice)

    def learn(self, choice: Choice) -> None:
        """Count what multiplying by quantised weights takes on this machine, once that is measured."""
        dequantize_from, said = choice
        dequantizes = said != "dense" and dequantize_from != NEVER
        self._dequantized = dequantized_bytes(self.config, self.dtype.size) if dequantizes else 0

    def bytes_needed(self, spec: RenderSpec, prompt: int = 1) -> int:
        """See worker.engines.engine.Estimate. `prompt` is its tokens, where they are known.

        Counts kept prompts to their bound and the text encoder as read for its turn.
        """
        grid = (spec.height // self.config.grid, spec.width // self.config.grid)
        load = Load(prompt, grid, self.recipe(spec).steps, bool(spec.references))
        layer = 2 * self.text // self.config.text_layers  # while it is stacked, some of it exists twice
        working = working_bytes(self.config, load, self.dtype.size, layer, self._encoder, Backend.current())
        return self.weights + self._dequantized + self.feature_bytes + working

    def recipe(self, spec: RenderSpec) -> Recipe:
        """How `spec` is rendered."""
        return self._recipe if spec.steps is None else replace(self._recipe, steps=spec.steps)
