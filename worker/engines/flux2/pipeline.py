"""From text and references to latents: a render's constants once, then each denoising step.

Arrays are yielded unevaluated: the caller evaluates, measures, reports and, by closing the generator,
cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.flux2.modulation import Step
from pixelkiln.worker.engines.flux2.positions import Grid, picture_positions, text_positions
from pixelkiln.worker.engines.flux2.recipes import Recipe
from pixelkiln.worker.engines.flux2.schedule import schedule
from pixelkiln.worker.engines.flux2.transformer import Transformer
from pixelkiln.worker.engines.mlx.noise import Noise
from pixelkiln.worker.engines.mlx.rotary import Pairs, angles, pairs
from pixelkiln.worker.engines.mlx.schedulers import FlowMatch, Schedule


@dataclass(frozen=True, slots=True)
class References:
    """What reference pictures add to a render."""

    latents: mx.array  # (tokens, channels) float32, all references in order
    grids: tuple[Grid, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A render's constants."""

    grid: Grid  # the target's rows and columns of tokens
    recipe: Recipe
    schedule: Schedule
    texts: tuple[mx.array, ...]  # embedded, the prompt's and, where the recipe is guided, the empty one's
    references: mx.array | None  # embedded, (tokens, width)
    steps: Sequence[Step]
    turn: Pairs

    @property
    def tokens(self) -> int:
        """Tokens of the target."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True, slots=True)
class State:
    """After a step: the state `z` and the prediction `clean` (x̂0) behind it, (tokens, channels) float32."""

    z: mx.array
    clean: mx.array


def prepare(
    model: Transformer,
    recipe: Recipe,
    grid: Grid,
    features: Sequence[mx.array],
    references: References | None = None,
) -> Plan:
    """Compute all that no step changes. `features` are (LENGTH, features) each, see Plan.texts."""
    config = model.config
    places = picture_positions(grid, () if references is None else references.grids)
    places = np.concatenate([text_positions(len(features[0])), places])
    made = schedule(grid[0] * grid[1], recipe.steps)
    return Plan(
        grid=grid,
        recipe=recipe,
        schedule=made,
        texts=tuple(model.text_in(one.astype(model.dtype)) for one in features),
        references=None if references is None else model.embedded(references.latents),
        steps=model.times(mx.array(made.timesteps, mx.float32)),
        turn=pairs(angles(places, config.axes, config.theta)),
    )


def velocities(model: Transformer, plan: Plan, z: mx.array, i: int) -> Iterator[mx.array]:
    """What the model gives at step i (from 0) for each of the plan's texts, (tokens, channels) float32."""
    for text in plan.texts:
        yield model(z, plan.references, text, plan.steps[i], plan.turn)


def denoise(model: Transformer, plan: Plan, noise: Noise) -> Iterator[State]:
    """Yield the state after every step. All arithmetic outside the model is float32."""
    sampler, z = FlowMatch(plan.schedule.sigmas), noise(0)
    for i in range(plan.recipe.steps):
        velocity, *other = velocities(model, plan, z, i)
        if other:
            velocity = other[0] + plan.recipe.guidance * (velocity - other[0])
        clean = z - plan.schedule.sigmas[i] * velocity
        z = sampler.step(i, velocity, z, None)
        yield State(z, clean)
