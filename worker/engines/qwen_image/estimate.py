"""What a render needs of memory, by a checkpoint folder's configs and file headers: nothing is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from pathlib import Path

import mlx.core as mx

from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.references import Fitted, fit
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.calibrate import NEVER, Choice
from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.memory import Backend, weight_bytes
from pixelkiln.worker.engines.qwen_image import checkpoint
from pixelkiln.worker.engines.qwen_image.calibrate import known
from pixelkiln.worker.engines.qwen_image.conditions import FEATURE_BYTES, PICTURE_BYTES
from pixelkiln.worker.engines.qwen_image.config import Config
from pixelkiln.worker.engines.qwen_image.encoder import parts
from pixelkiln.worker.engines.qwen_image.memory import (
    SLACK,
    Load,
    decoding_bytes,
    dequantized_bytes,
    encoding_bytes,
    modulating_bytes,
    step_bytes,
    table_bytes,
    text_bytes,
    vision_bytes,
)
from pixelkiln.worker.engines.qwen_image.modulation import is_modulation
from pixelkiln.worker.engines.qwen_image.recipes import RECIPES, Recipe

SCAFFOLD = 80  # tokens of the template and a short prompt


class Estimate:
    """See worker.engines.engine.Estimate. Raises CheckpointError for a folder that cannot be read."""

    def __init__(
        self,
        folder: Path,
        dtype: mx.Dtype | None = None,
        feature_bytes: int = FEATURE_BYTES,
        picture_bytes: int = PICTURE_BYTES,
        calibrations: Path | None = None,
    ) -> None:
        self.manifest = Manifest.read(folder)
        if self.manifest.recipe not in RECIPES:
            raise CheckpointError(
                f"{folder / NAME}: recipe: {self.manifest.recipe!r}; there are {', '.join(RECIPES)}"
            )
        self.config = Config.read(folder)
        checkpoint.check_traits(folder, self.config, self.manifest.model)
        self.dtype = dtype or default_dtype()
        rule = CATALOGUE[self.manifest.model].references
        self.areas = rule if isinstance(rule, Fitted) else Fitted()
        # What a picture of unknown shape becomes at most: its area is set, its sides are rounded.
        side, vision = fit(self.areas.area, (1, 1))[0] + 32, self.config.vision
        self._picture = (side, side)  # pixels of the autoencoder's copy
        self.pads = int((math.sqrt(self.areas.vision_area) / (vision.patch * vision.merge) + 1.1) ** 2)
        self._kept = feature_bytes + picture_bytes
        itemsize = self.dtype.size
        stored = {part: checkpoint.tensors(folder, part) for part in checkpoint.PARTS}
        blocks = [one for name, one in stored[checkpoint.TRANSFORMER].items() if not is_modulation(name)]
        used = [one for name, one in stored[checkpoint.VAE].items() if ".time_conv." not in name]
        vae = sum(_last_slice(one) for one in used) * itemsize
        self.weights = weight_bytes(blocks, itemsize) + vae  # bytes that stay
        self.tower, layers = (weight_bytes(part, itemsize) for part in parts(stored[checkpoint.ENCODER]))
        self.layer, self.encoder = layers // self.config.text.layers, self.tower + layers
        self._dequantized = 0
        choice = known(calibrations, stored[checkpoint.TRANSFORMER], self.dtype, self.manifest.digest)
        if choice is not None:
            self.learn(choice)

    def learn(self, choice: Choice) -> None:
        """Count what multiplying by quantised weights takes on this machine, once that is measured."""
        dequantize_from, said = choice
        dequantizes = said != "dense" and dequantize_from != NEVER
        self._dequantized = dequantized_bytes(self.config.transformer, self.dtype.size) if dequantizes else 0

    def bytes_needed(self, spec: RenderSpec, prompts: Sequence[int] = (), kept: bool = False) -> int:
        """See worker.engines.engine.Estimate. `prompts` are each branch's tokens, where they are known.

        Counts caches that are full; with `kept` the text encoder too, all of it.
        """
        count, recipe = len(spec.references), self.recipe(spec)
        pads = (self.pads,) * count
        short = (SCAFFOLD + sum(pads),) * (2 if recipe.guided else 1)
        load = Load(
            (spec.width, spec.height), tuple(prompts) or short, pads, (self._picture,) * count, recipe.steps
        )
        itemsize, backend, config = self.dtype.size, Backend.current(), self.config
        table = table_bytes(config.transformer, recipe.steps, itemsize)
        staged = 0 if kept else self.layer
        phases = [
            staged + text_bytes(config.text, load, itemsize, backend),
            table + modulating_bytes(config.transformer, itemsize),
            table + step_bytes(config.transformer, load, itemsize, backend) + self._dequantized,
            table + decoding_bytes(config.vae, load.size, itemsize),
        ]
        if count:
            tower = 0 if kept else self.tower
            phases.append(tower + vision_bytes(config.vision, load, itemsize, backend))
            phases.append(encoding_bytes(config.vae, self._picture, itemsize))
        held = self.weights + self._kept + (self.encoder if kept else 0)
        return held + int(max(phases) * SLACK)

    def recipe(self, spec: RenderSpec) -> Recipe:
        """How `spec` is rendered. Raises SpecError."""
        return RECIPES[self.manifest.recipe].of(spec)


def _last_slice(one: Stored) -> int:
    """Values of a tensor that are kept: of a kernel in time only its last."""
    return prod(one.shape) // (one.shape[2] if len(one.shape) == 5 else 1)
