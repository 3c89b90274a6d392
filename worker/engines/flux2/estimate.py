"""What a render needs of memory, by a checkpoint folder's config and file headers: nothing is loaded."""

from __future__ import annotations

from math import isqrt
from pathlib import Path

import mlx.core as mx

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.calibrate import NEVER, Choice
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.flux2.calibrate import known
from pixelkiln.worker.engines.flux2.checkpoint import TEXT, TRANSFORMER, VAE, tensors
from pixelkiln.worker.engines.flux2.memory import Load, dequantized_bytes, working_bytes
from pixelkiln.worker.engines.flux2.model import Config
from pixelkiln.worker.engines.flux2.recipes import recipe_of
from pixelkiln.worker.engines.flux2.references import RULE
from pixelkiln.worker.engines.flux2.schedule import TOKEN
from pixelkiln.worker.engines.flux2.text import LAYERS
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.memory import Backend, weight_bytes
from pixelkiln.worker.engines.mlx.qwen3 import TABLE, unused

FEATURE_BYTES = 64 * 2**20  # of prompts that ran: eight of the release in bfloat16
LARGEST = (isqrt(RULE.area) // TOKEN,) * 2  # tokens of a reference, whose own size no job tells


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
        self.recipe = recipe_of(folder, self.manifest)
        self.dtype = dtype or default_dtype()
        self.feature_bytes = feature_bytes
        itemsize = self.dtype.size
        self.weights = sum(  # bytes that stay
            weight_bytes(tensors(folder, part).values(), itemsize) for part in (TRANSFORMER, VAE)
        )
        dropped = (TABLE, *unused(self.config.text, LAYERS))
        layers = [one for name, one in tensors(folder, TEXT).items() if not name.startswith(dropped)]
        self.text = weight_bytes(layers, itemsize)  # bytes, where the encoder is kept
        self._dequantized = 0
        choice = known(calibrations, folder, self.config.transformer, self.dtype, self.manifest.digest)
        if choice is not None:
            self.learn(choice)

    def learn(self, choice: Choice) -> None:
        """Count what multiplying by quantised weights takes on this machine, once that is measured."""
        dequantize_from, said = choice
        dequantizes = said != "dense" and dequantize_from != NEVER
        transformer = self.config.transformer
        self._dequantized = dequantized_bytes(transformer, self.dtype.size) if dequantizes else 0

    def bytes_needed(self, spec: RenderSpec) -> int:
        """See worker.engines.engine.Estimate.

        Counts kept prompts to their bound, the text encoder as read for its turn, and each reference as large
        as one is taken.
        """
        grid = (spec.height // TOKEN, spec.width // TOKEN)
        branches = 2 if self.recipe.of(spec).guided else 1
        load = Load(grid, (LARGEST,) * len(spec.references), branches)
        layer = 2 * self.text // LAYERS  # while it is stacked, some of it exists twice
        working = working_bytes(self.config, load, self.dtype.size, layer, Backend.current())
        return self.weights + self._dequantized + self.feature_bytes + working
