"""Samplers as arithmetic: float32 states in, float32 states out; no model, no randomness of their own.

A model output here is −v, v = (x̂0 − z)/σ; `denoised` is z − σ · output, which is x̂0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

TRAIN_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Schedule:
    """Timesteps told to the model, 0 … 1000, and the solver's sigmas: one more, ending in 0."""

    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]


class Scheduler(Protocol):
    """One render's sampler."""

    def step(self, i: int, output: mx.array, z: mx.array, noise: mx.array | None) -> mx.array:
        """The state after step i (from 0), given −v and the state before it.

        `noise` is fresh ε; None where the sampler uses none, as when the next sigma is 0.
        """
        ...


def shifted(sigma: float, shift: float) -> float:
    """s·σ / (1 + (s − 1)·σ): spends more steps where there is more noise (Esser et al., 2024, eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def listed(timesteps: tuple[int, ...]) -> Schedule:
    """The schedule of given timesteps: sigma = timestep / 1000."""
    return Schedule(timesteps, (*(step / TRAIN_STEPS for step in timesteps), 0.0))


@dataclass(frozen=True, slots=True)
class FlowMatch:
    """Euler's method on the flow: z' = z + (σ' − σ) · output."""

    sigmas: tuple[float, ...]

    def step(self, i: int, output: mx.array, z: mx.array, noise: mx.array | None) -> mx.array:
        """See Scheduler.step."""
        return z + (self.sigmas[i + 1] - self.sigmas[i]) * output
