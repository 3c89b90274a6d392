"""HiDream-O1's own samplers and schedules, see engines.mlx.schedulers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.mlx.schedulers import TRAIN_STEPS, Schedule, shifted


def euler_schedule(steps: int, shift: float) -> Schedule:
    """Evenly spaced from the largest to the smallest shifted sigma of 1 … 1000, shifted again."""
    ends = shifted(1.0, shift), shifted(1 / TRAIN_STEPS, shift)
    sigmas = [shifted(float(sigma), shift) for sigma in np.linspace(*ends, steps)]
    return Schedule(tuple(sigma * TRAIN_STEPS for sigma in sigmas), (*sigmas, 0.0))


def unipc_schedule(steps: int, shift: float) -> Schedule:
    """Evenly spaced from the shifted 0.999 towards 0, shifted again; the model is told whole timesteps."""
    # The first sigma is a float32 in the reference: in float64 some timesteps would be cut to one less.
    largest = np.float32(1 - 1 / TRAIN_STEPS)
    first = np.float32(shift) * largest / (np.float32(1) + np.float32(shift - 1) * largest)
    sigmas = [shifted(float(sigma), shift) for sigma in np.linspace(float(first), 0.0, steps + 1)[:-1]]
    return Schedule(tuple(float(int(sigma * TRAIN_STEPS)) for sigma in sigmas), (*sigmas, 0.0))


@dataclass(frozen=True, slots=True)
class Flash:
    """Denoise fully, then noise again to the next sigma: z' = σ' · s · clip(ε) + (1 − σ') · denoised.

    `scales` is s for each step; ε is clipped at ± `clip` of its own standard deviations, 0 means not.
    """

    sigmas: tuple[float, ...]
    scales: tuple[float, ...]
    clip: float

    def step(self, i: int, output: mx.array, z: mx.array, noise: mx.array | None) -> mx.array:
        """See Scheduler.step."""
        denoised = z - self.sigmas[i] * output
        following = self.sigmas[i + 1]
        if noise is None:
            return (1 - following) * denoised
        return following * self.scales[i] * clipped(noise, self.clip) + (1 - following) * denoised


def clipped(noise: mx.array, clip: float) -> mx.array:
    """Noise within ± `clip` of its own standard deviations; 0: as it is."""
    if clip <= 0:
        return noise
    bound = clip * mx.std(noise, ddof=1)
    return mx.clip(noise, -bound, bound)


@dataclass(slots=True)
class UniPC:
    """UniPC of order 2 with B(h) = e^h − 1, predicting x0 (Zhao et al., 2023, algorithms 1 and 2).

    α = 1 − σ and λ = ln(α/σ). The first and the last step are of order 1; each step after the first begins by
    correcting the state it is given.
    """

    sigmas: tuple[float, ...]
    _last: mx.array | None = None  # the corrected state before the last step
    _clean: list[mx.array] = field(default_factory=list)  # x̂0 of the last two steps, newest last
    _order: int = 1  # of the last step

    def step(self, i: int, output: mx.array, z: mx.array, noise: mx.array | None) -> mx.array:
        """See Scheduler.step."""
        clean = z - self.sigmas[i] * output
        if self._last is not None:
            z = self._correct(i, clean, self._last)
        self._last, self._clean = z, [*self._clean[-1:], clean]
        self._order = min(2, len(self._clean), len(self.sigmas) - 1 - i)
        return self._predict(i, z)

    def _predict(self, i: int, z: mx.array) -> mx.array:
        to, since = self.sigmas[i + 1], self.sigmas[i]
        if to == 0:
            return self._clean[-1]
        h = self._lambda(i + 1) - self._lambda(i)
        growth = math.expm1(-h)
        base = to / since * z - (1 - to) * growth * self._clean[-1]
        if self._order == 1:
            return base
        ratio = (self._lambda(i - 1) - self._lambda(i)) / h
        return base - (1 - to) * growth * 0.5 / ratio * (self._clean[-2] - self._clean[-1])

    def _correct(self, i: int, clean: mx.array, last: mx.array) -> mx.array:
        """Redo the step that led to step i, now that x̂0 there (`clean`) is known."""
        to, since = self.sigmas[i], self.sigmas[i - 1]
        h = self._lambda(i) - self._lambda(i - 1)
        growth = math.expm1(-h)
        base = to / since * last - (1 - to) * growth * self._clean[-1]
        change = clean - self._clean[-1]
        if self._order == 1:
            return base - (1 - to) * growth * 0.5 * change
        ratio = (self._lambda(i - 2) - self._lambda(i - 1)) / h
        phi2 = growth / -h - 1
        phi3 = phi2 / -h - 0.5
        rho = np.linalg.solve([[1.0, 1.0], [ratio, 1.0]], [phi2 / growth, 2 * phi3 / growth])
        curvature = float(rho[0]) / ratio * (self._clean[-2] - self._clean[-1])
        return base - (1 - to) * growth * (curvature + float(rho[1]) * change)

    def _lambda(self, i: int) -> float:
        return math.log(1 - self.sigmas[i]) - math.log(self.sigmas[i])
