"""Sigmas and times of a render. All arithmetic outside the model is float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixelkiln.worker.engines.mlx.schedulers import TRAIN_STEPS, shifted


@dataclass(frozen=True, slots=True)
class Schedule:
    """A render's sigmas, one more than its steps and ending in 0, and the times told to the model.

    A time is 1 - sigma: 0 is pure noise. The first `begin` steps are left out: the render starts from a
    picture.
    """

    sigmas: tuple[float, ...]
    times: tuple[float, ...]
    begin: int = 0

    @classmethod
    def of(cls, steps: int, shift: float, strength: float | None = None) -> Schedule:
        """So many steps, spaced evenly and shifted; of a `strength` above 0 the last part of them, at least
        one.
        """
        spaced = [shifted(1 - k / steps, shift) for k in range(steps)]
        sigmas = np.array([*spaced, 0.0]).astype(np.float32)  # rounded once: the model sees 1000 · time
        train = np.float32(TRAIN_STEPS)
        times = (train - train * sigmas[:-1]) / train
        begin = 0 if strength is None else min(int(steps - steps * strength), steps - 1)
        return cls(tuple(sigmas.tolist()), tuple(times.tolist()), begin)

    @property
    def steps(self) -> int:
        """Forward passes."""
        return len(self.times) - self.begin
