"""Pictures of many captions at once: the engine's steps over forward's batches, for scores of many settings.

Formulas, noise and grids are the engine's own; only the model's products run over several pictures together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from pixelkiln.worker.engines.hidream.coarse import coarse_noise, halved
from pixelkiln.worker.engines.hidream.config import PATCH_VALUES, Config
from pixelkiln.worker.engines.hidream.patches import to_pixels
from pixelkiln.worker.engines.hidream.pipeline import Plan, walk
from pixelkiln.worker.engines.hidream.positions import Grid
from pixelkiln.worker.engines.hidream.recipes import RECIPES, Recipe
from pixelkiln.worker.engines.hidream.schedulers import clipped
from pixelkiln.worker.engines.hidream.tokens import Prompts
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.noise import Noise, seeded
from postcards.checkpoint import Geometry, read_weights
from postcards.forward import Given, Places, predict

Pixels = NDArray[np.uint8]  # (height, width, 3)
RECIPE = RECIPES["dev"].text
Predict = Callable[[dict[str, mx.array], mx.array, mx.array, mx.array, mx.array], mx.array]


@dataclass(frozen=True, slots=True)
class Asked:
    """One picture: its caption, its size in patches, and the seed of its noise."""

    text: str
    grid: Grid
    seed: int


class Batches:
    """A checkpoint of the demo's kind, bf16 or float32, that renders up to `most` pictures together."""

    def __init__(self, folder: Path, geometry: Geometry, most: int = 32) -> None:
        self._most = most
        self._dtype = default_dtype()
        self._config = Config.read(folder)
        self._prompts = Prompts(folder, self._config)
        weights = read_weights(folder, geometry)
        self._weights = {name: value.astype(self._dtype) for name, value in weights.items()}
        self._functions: dict[tuple[Grid, int], Predict] = {}

    def render(self, asked: Sequence[Asked], steps: int, coarse_steps: int) -> list[Pixels]:
        """Their pictures, in order; the weights stay in memory."""
        recipe = RECIPE if steps == RECIPE.steps else RECIPE.with_steps(steps)
        found: dict[int, Pixels] = {}
        for numbers in self._alike(asked):
            pictures = self._together([asked[number] for number in numbers], recipe, coarse_steps)
            found |= dict(zip(numbers, pictures, strict=True))
        return [found[number] for number in range(len(asked))]

    def _alike(self, asked: Sequence[Asked]) -> Iterator[list[int]]:
        by_grid: dict[Grid, list[int]] = {}
        for number, one in enumerate(asked):
            by_grid.setdefault(one.grid, []).append(number)
        for numbers in by_grid.values():
            yield from (numbers[at : at + self._most] for at in range(0, len(numbers), self._most))

    def _together(self, asked: list[Asked], recipe: Recipe, coarse_steps: int) -> list[Pixels]:
        encoded = [self._prompts.encode(one.text)[:-1] for one in asked]  # the timestep's token is generated
        room = -(-max(map(len, encoded)) // 16) * 16
        ids = mx.array([[*row, *[0] * (room - len(row))] for row in encoded])
        lengths = mx.array([len(row) for row in encoded])
        grid, timesteps = asked[0].grid, recipe.schedule().timesteps
        unclipped = replace(recipe, noise_clip=0.0)  # clipped below, one by one
        plan = Plan(grid, unclipped, (), mx.array(0), None).with_coarse(coarse_steps, self._config.text)
        small = halved(grid)

        def cleans(now: Plan, z: mx.array, i: int) -> list[mx.array]:
            times = mx.full(len(asked), timesteps[i], mx.float32)
            return [self._function(now.grid, room)(self._weights, ids, lengths, times, z)]

        noises = [seeded(one.seed, (grid[0] * grid[1], PATCH_VALUES)) for one in asked]
        owns = [seeded(one.seed, (small[0] * small[1], PATCH_VALUES)) for one in asked]
        smalls = [coarse_noise(noise, own, small, grid) for noise, own in zip(noises, owns, strict=True)]
        for state in walk(plan, cleans, _each(noises, recipe), _each(smalls, recipe)):
            mx.eval(state.z)
        return [to_pixels(z, *grid) for z in state.z]

    def _function(self, grid: Grid, room: int) -> Predict:
        if (grid, room) not in self._functions:
            places = Places.of(room, grid, self._config.text)

            def run(
                weights: dict[str, mx.array], ids: mx.array, lengths: mx.array, times: mx.array, z: mx.array
            ) -> mx.array:
                given = Given(weights, self._dtype)
                return predict(given, self._config.text, places, ids, lengths, times, z)

            gpu = mx.default_device() == mx.Device(mx.gpu)
            self._functions[grid, room] = mx.compile(run) if gpu else run
        return self._functions[grid, room]


def _each(noises: Sequence[Noise], recipe: Recipe) -> Noise:
    """Each picture's own noise, clipped by its own deviation as the sampler does; the first is not."""

    def draw(step: int) -> mx.array:
        drawn = [noise(step) for noise in noises]
        return mx.stack([clipped(one, recipe.noise_clip) if step else one for one in drawn])

    return draw
