"""From a prompt to latents: prepare a render's constants once, then yield each denoising step.

Arrays are yielded unevaluated: the caller evaluates, measures, reports and, by closing the generator,
cancels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.mlx.noise import Noise
from pixelkiln.worker.engines.mlx.rotary import Pairs
from pixelkiln.worker.engines.mlx.schedulers import FlowMatch
from pixelkiln.worker.engines.z_image.model import Grid
from pixelkiln.worker.engines.z_image.positions import image_positions, text_positions
from pixelkiln.worker.engines.z_image.schedule import Schedule
from pixelkiln.worker.engines.z_image.transformer import Times, Transformer


@dataclass(frozen=True, slots=True)
class Plan:
    """A render's constants."""

    grid: Grid
    schedule: Schedule
    times: Times  # of the steps that run
    text: mx.array
    image_rotation: Pairs
    rotation: Pairs  # of the picture's tokens, then the text's
    clean: mx.array | None  # the patches that the render begins from

    def arrays(self) -> list[mx.array]:
        """To be evaluated before the first step."""
        turns = (self.image_rotation, self.rotation)
        made = [*self.times.arrays(), self.text, *(array for one in turns for array in (one.cos, one.sin))]
        return made if self.clean is None else [*made, self.clean]


@dataclass(frozen=True, slots=True)
class State:
    """After a step: the state `z` and the prediction `clean` (x̂0) behind it, (patches, values) float32."""

    z: mx.array
    clean: mx.array


def prepare(
    transformer: Transformer,
    schedule: Schedule,
    grid: Grid,
    text: mx.array,
    tokens: int,
    clean: mx.array | None = None,
) -> Plan:
    """Compute all that no step changes; `text` is Transformer.text of so many tokens."""
    image = image_positions(*grid, len(text))
    return Plan(
        grid=grid,
        schedule=schedule,
        times=transformer.times(schedule.times[schedule.begin :]),
        text=text,
        image_rotation=transformer.rotation(image),
        rotation=transformer.rotation(np.concatenate([image, text_positions(tokens)])),
        clean=clean,
    )


def start(plan: Plan, noise: Noise) -> mx.array:
    """The state before the first step that runs."""
    if plan.clean is None:
        return noise(0)
    sigma = plan.schedule.sigmas[plan.schedule.begin]
    return sigma * noise(0) + (1 - sigma) * plan.clean


def predict(transformer: Transformer, plan: Plan, z: mx.array, i: int) -> mx.array:
    """Minus the velocity at the i-th step that runs, (patches, values) float32."""
    return transformer(z, plan.text, plan.times, i, plan.image_rotation, plan.rotation)


def denoise(transformer: Transformer, plan: Plan, noise: Noise) -> Iterator[State]:
    """Yield the state after every step."""
    sampler, z = FlowMatch(plan.schedule.sigmas), start(plan, noise)
    for i in range(plan.schedule.steps):
        step = plan.schedule.begin + i
        velocity = -predict(transformer, plan, z, i)
        clean = z - plan.schedule.sigmas[step] * velocity
        z = sampler.step(step, velocity, z, None)
        yield State(z, clean)
