"""What a render needs of memory, by a checkpoint folder's config and file headers: nothing is loaded."""

from __future__ import annotations

from math import prod
from pathlib import Path

import mlx.core as mx

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.calibrate import NEVER, Choice
from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream.calibrate import known
from pixelkiln.worker.engines.hidream.checkpoint import tensors
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.memory import (
    Load,
    dequantized_bytes,
    prefix_bytes,
    working_bytes,
)
from pixelkiln.worker.engines.hidream.model import UNUSED
from pixelkiln.worker.engines.hidream.patches import grid
from pixelkiln.worker.engines.hidream.recipes import RECIPES, Recipe
from pixelkiln.worker.engines.hidream.references import bounds
from pixelkiln.worker.engines.hidream.vision import TOWER
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.memory import Backend, weight_bytes

PREFIX_CACHE_BYTES = 256 * 2**20  # some 1,800 prompt tokens of the released model in bfloat16


class Estimate:
    """See worker.engines.engine.Estimate. Raises CheckpointError for a folder that cannot be read."""

    def __init__(
        self,
        folder: Path,
        dtype: mx.Dtype | None = None,
        prefix_cache_bytes: int = PREFIX_CACHE_BYTES,
        calibrations: Path | None = None,
    ) -> None:
        self.manifest = Manifest.read(folder)
        if self.manifest.recipe not in RECIPES:
            raise CheckpointError(
                f"{folder / NAME}: recipe: {self.manifest.recipe!r}; there are {', '.join(RECIPES)}"
            )
        self.config = Config.read(folder)
        self.dtype = dtype or default_dtype()
        self._prefix_cache_bytes = prefix_cache_bytes
        stored = tensors(folder)
        self.weights, self._tower = (  # bytes
            weight_bytes([one for name, one in stored.items() if wanted(name)], self.dtype.size)
            for wanted in (lambda name: not name.startswith(UNUSED), lambda name: name.startswith(TOWER))
        )
        self._dequantized = 0
        choice = known(calibrations, folder, self.config, self.dtype, self.manifest.digest)
        if choice is not None:
            self.learn(choice)

    def learn(self, choice: Choice) -> None:
        """Count what multiplying by quantised weights takes on this machine, once that is measured."""
        dequantize_from, said = choice
        dequantizes = said != "dense" and dequantize_from != NEVER
        self._dequantized = dequantized_bytes(self.config.text, self.dtype.size) if dequantizes else 0

    def pads(self, spec: RenderSpec) -> list[int]:
        """The tokens that stand for each reference in the prompt, at most."""
        _, _, pads = self._bounds(spec)
        return [pads] * (len(spec.references) + self._has_layout(spec))

    def bytes_needed(self, spec: RenderSpec, prompt: int = 0) -> int:
        """See worker.engines.engine.Estimate. `prompt` is its tokens, pads included, where they are known.

        Counts a prefix cache that is full.
        """
        size, patches, _ = self._bounds(spec)
        pads = self.pads(spec)
        if pads and not self.config.vision:
            raise CheckpointError("config.json has no 'vision_config', which reference pictures need")
        load = Load(
            prompt=prompt or sum(pads) + 1,
            patches=prod(grid(*size)),
            references=patches,
            pads=tuple(pads),
            branches=2 if self.recipe(spec).guided else 1,
        )
        itemsize = self.dtype.size
        prefixes = max(prefix_bytes(self.config.text, load, itemsize), self._prefix_cache_bytes)
        working = working_bytes(self.config, load, itemsize, self._tower, Backend.current())
        return self.weights + self._dequantized + prefixes + working

    def recipe(self, spec: RenderSpec) -> Recipe:
        """How `spec` is rendered."""
        recipe = RECIPES[self.manifest.recipe].choose(len(spec.references))
        if spec.steps is not None:
            recipe = recipe.with_steps(spec.steps)
        if spec.guidance is not None:
            recipe = recipe.with_guidance(spec.guidance)
        return recipe

    def coarse_steps(self, spec: RenderSpec) -> int:
        """How many of its first steps run on half the grid. Raises SpecError."""
        count, recipe = spec.coarse_steps, self.recipe(spec)
        if count and (spec.references or not recipe.noisy):
            raise SpecError(
                "coarse_steps", "only a model that adds noise at each step takes them, text to image"
            )
        if not 0 <= count < recipe.steps:
            raise SpecError("coarse_steps", f"must be 0 to {recipe.steps - 1}, got {count}")
        return count

    def _bounds(self, spec: RenderSpec) -> tuple[tuple[int, int], int, int]:
        size = (spec.width, spec.height)
        return bounds(size, len(spec.references), self._has_layout(spec), spec.keep_aspect)

    def _has_layout(self, spec: RenderSpec) -> bool:
        return bool(spec.layout) and not spec.keep_aspect
