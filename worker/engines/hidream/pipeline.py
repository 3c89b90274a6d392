"""From a prompt to a picture: prepare a render's constants once, then yield each denoising step.

Arrays are yielded unevaluated: the caller evaluates, measures, reports and, by closing the generator,
cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.hidream.coarse import coarse_noise, enlarge, halved
from pixelkiln.worker.engines.hidream.config import PATCH_VALUES, TextConfig
from pixelkiln.worker.engines.hidream.decoder import Added
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.positions import Grid, patch_positions, text_positions
from pixelkiln.worker.engines.hidream.prefixes import Prefix, PrefixCache
from pixelkiln.worker.engines.hidream.recipes import Recipe
from pixelkiln.worker.engines.hidream.rope import Positions, rotation
from pixelkiln.worker.engines.hidream.tokens import Prompts
from pixelkiln.worker.engines.hidream.vision import Features
from pixelkiln.worker.engines.mlx.noise import Noise, seeded
from pixelkiln.worker.engines.mlx.rotary import Halves

UNCONDITIONAL = " "  # the prompt of the branch that guidance steers away from
MIN_SIGMA = 0.001


@dataclass(frozen=True, slots=True)
class Conditions:
    """What reference pictures add to a render."""

    key: bytes  # of everything the prefix depends on beyond the prompt
    patches: mx.array  # (reference patches, 3072) in −1 … 1, all references in order
    grids: tuple[Grid, ...]  # of those patches, one per reference
    pads: tuple[Grid, ...]  # of the vision tower's tokens, one per reference
    features: Callable[[], Features]  # the tower's output, computed when first asked for


@dataclass(frozen=True, slots=True)
class Branch:
    """One prompt's side of a step: what its generated tokens attend to and where they stand."""

    ids: tuple[int, ...]  # up to and including the timestep's token
    positions: Positions  # (3, sequence)
    prefix: Prefix
    rotation: Halves  # of the generated tokens

    def on(self, grid: Grid, config: TextConfig) -> Branch:
        """The same prompt before another grid, without references."""
        before, patches = len(self.ids) - 1, patch_positions(grid)
        text = self.positions[:, : before + 1]
        return replace(
            self,
            positions=np.concatenate([text, patches], axis=1),
            rotation=rotation(np.concatenate([text[:, before:], patches], axis=1), config),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A render's constants."""

    grid: Grid  # the target's rows and columns of patches
    recipe: Recipe
    branches: tuple[Branch, ...]  # the prompt's, then the unconditional one if the recipe is guided
    times: mx.array  # (steps, hidden): each step's timestep embedding
    references: mx.array | None  # (reference patches, hidden)
    coarse: Plan | None = None  # of the first `coarse_steps`, on a small grid
    coarse_steps: int = 0

    @property
    def patches(self) -> int:
        """Patches of the target."""
        return self.grid[0] * self.grid[1]

    def with_coarse(self, steps: int, config: TextConfig) -> Plan:
        """The same, so many of the first steps on half the grid.

        For a recipe that adds noise, without references.
        """
        if not steps:
            return self
        small = halved(self.grid)
        branches = tuple(branch.on(small, config) for branch in self.branches)
        return replace(self, coarse=replace(self, grid=small, branches=branches), coarse_steps=steps)

    def whole(self, clean: mx.array) -> mx.array:
        """A step's x̂0 at the picture's size: a coarse one's is enlarged."""
        if self.coarse is None or len(clean) == self.patches:
            return clean
        return enlarge(clean, self.coarse.grid, self.grid)


@dataclass(frozen=True, slots=True)
class State:
    """After a step: the state `z` and the prediction `clean` (x̂0) behind it, (patches, 3072) float32.

    After the last coarse step `z` is the full grid's already, `clean` still the small one's.
    """

    z: mx.array
    clean: mx.array


def prepare(
    model: Model,
    prompts: Prompts,
    cache: PrefixCache,
    recipe: Recipe,
    prompt: str,
    grid: Grid,
    conditions: Conditions | None = None,
    coarse_steps: int = 0,
) -> Plan:
    """Run the prompt's prefix, or reuse it, and compute all that no step changes."""
    texts = (prompt, UNCONDITIONAL) if recipe.guided else (prompt,)
    timesteps = mx.array(recipe.schedule().timesteps, mx.float32)
    return Plan(
        grid=grid,
        recipe=recipe,
        branches=tuple(_branch(model, prompts, cache, text, grid, conditions) for text in texts),
        times=model.timestep(timesteps),
        references=None if conditions is None else model.pixels_in(conditions.patches),
    ).with_coarse(coarse_steps, model.config.text)


def _branch(
    model: Model,
    prompts: Prompts,
    cache: PrefixCache,
    prompt: str,
    grid: Grid,
    conditions: Conditions | None,
) -> Branch:
    pads = () if conditions is None else conditions.pads
    ids = prompts.encode(prompt, [rows * columns for rows, columns in pads])
    text = text_positions(ids, model.config.image_token_id, pads)
    patches = patch_positions(grid, () if conditions is None else conditions.grids)
    before = len(ids) - 1  # the timestep's token is generated: it is the last of the ids

    def run() -> Prefix:
        x, added = _embed(model, ids[:before], conditions)
        return model.decoder.prefix(x, rotation(text[:, :before], model.config.text), added)

    return Branch(
        ids=ids,
        positions=np.concatenate([text, patches], axis=1),
        prefix=cache.get((ids, b"" if conditions is None else conditions.key), run),
        rotation=rotation(np.concatenate([text[:, before:], patches], axis=1), model.config.text),
    )


def _embed(model: Model, ids: Sequence[int], conditions: Conditions | None) -> tuple[mx.array, Added | None]:
    x = model.decoder.embed_tokens(mx.array(list(ids))).astype(model.dtype)
    if conditions is None:
        return x, None
    at = mx.array(np.flatnonzero(np.array(ids) == model.config.image_token_id))
    features = conditions.features()
    x[at] = features.embeds.astype(x.dtype)
    return x, Added(at, features.deepstack)


def predict(model: Model, plan: Plan, branch: Branch, z: mx.array, i: int) -> mx.array:
    """x̂0 at every generated token of step i (from 0), (tokens, 3072): timestep, target, references."""
    tokens = [plan.times[i : i + 1], model.pixels_in(z)]
    if plan.references is not None:
        tokens.append(plan.references)
    return model.predict(tokens, branch.rotation, branch.prefix)


def noises(plan: Plan, seed: int) -> tuple[Noise, Noise]:
    """What a seed draws for the picture, and for its coarse steps."""
    noise = seeded(seed, (plan.patches, PATCH_VALUES))
    if plan.coarse is None:
        return noise, noise
    own = seeded(seed, (plan.coarse.patches, PATCH_VALUES))
    return noise, coarse_noise(noise, own, plan.coarse.grid, plan.grid)


def denoise(model: Model, plan: Plan, noise: Noise, small: Noise | None = None) -> Iterator[State]:
    """Yield the state after every step; coarse ones take their noise from `small`."""

    def cleans(plan: Plan, z: mx.array, i: int) -> list[mx.array]:
        return [predict(model, plan, branch, z, i)[1 : 1 + plan.patches] for branch in plan.branches]

    return walk(plan, cleans, noise, small or noise)


def walk(
    plan: Plan, predicted: Callable[[Plan, mx.array, int], list[mx.array]], noise: Noise, small: Noise
) -> Iterator[State]:
    """The same, `predicted` telling each branch's x̂0. All arithmetic outside the model is float32."""
    recipe, schedule, sampler = plan.recipe, plan.recipe.schedule(), plan.recipe.sampler()
    z = recipe.noise_start * (small if plan.coarse else noise)(0)
    for i, timestep in enumerate(schedule.timesteps):
        now = plan.coarse if plan.coarse and i < plan.coarse_steps else plan
        sigma = max(timestep / 1000, MIN_SIGMA)
        cleans = predicted(now, z, i)
        velocities = [(clean - z) / sigma for clean in cleans]
        velocity = velocities[0]
        if recipe.guided:
            velocity = velocities[1] + recipe.guidance * (velocities[0] - velocities[1])
        draw = noise if i + 1 >= plan.coarse_steps else small
        fresh = draw(i + 1) if recipe.noisy and schedule.sigmas[i + 1] > 0 else None
        if i + 1 == plan.coarse_steps:
            # Denoised already: what is noised again for the next step is x̂0, enlarged.
            z = sampler.step(i, mx.array(0.0), enlarge(cleans[0], now.grid, plan.grid), fresh)
        else:
            z = sampler.step(i, -velocity, z, fresh)
        yield State(z, cleans[0])
