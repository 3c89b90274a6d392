"""How each model is sampled: a recipe is data, and Recipes say which one a job gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.hidream.schedulers import Flash, UniPC, euler_schedule, unipc_schedule
from pixelkiln.worker.engines.mlx.schedulers import FlowMatch, Schedule, Scheduler, listed

DEV_TIMESTEPS = (
    *(999, 987, 974, 960, 945, 929, 913, 895, 877, 857, 836, 814, 790, 764),
    *(737, 707, 675, 640, 602, 560, 515, 464, 409, 347, 278, 199, 110, 8),
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to sample."""

    scheduler: Literal["flash", "flow_match", "unipc"]
    steps: int
    timesteps: tuple[int, ...] | None = None  # listed, or None: spaced by the scheduler
    shift: float = 1.0
    guidance: float = 0.0  # above 1 a second, unconditional branch runs
    noise_start: float = 8.0  # scales the initial noise, and step noise at the first step
    noise_end: float = 8.0  # scales step noise at the last step
    noise_clip: float = 0.0  # in standard deviations of the step's noise, 0: none

    @property
    def guided(self) -> bool:
        """Whether a step runs two branches."""
        return self.guidance > 1

    @property
    def noisy(self) -> bool:
        """Whether a step adds fresh noise."""
        return self.scheduler == "flash"

    def schedule(self) -> Schedule:
        """Timesteps and sigmas."""
        if self.timesteps is not None:
            return listed(self.timesteps)
        spaced = unipc_schedule if self.scheduler == "unipc" else euler_schedule
        return spaced(self.steps, self.shift)

    def noise_scales(self) -> tuple[float, ...]:
        """Step noise's scale at each step: a line from `noise_start` to `noise_end`."""
        slope = (self.noise_end - self.noise_start) / max(self.steps - 1, 1)
        return tuple(self.noise_start + slope * i for i in range(self.steps))

    def sampler(self) -> Scheduler:
        """A fresh scheduler for one render."""
        sigmas = self.schedule().sigmas
        if self.scheduler == "flash":
            return Flash(sigmas, self.noise_scales(), self.noise_clip)
        return FlowMatch(sigmas) if self.scheduler == "flow_match" else UniPC(sigmas)

    def with_steps(self, steps: int) -> Recipe:
        """The same recipe in another number of steps.

        Of listed timesteps it keeps an evenly spaced part with the first and the last. Raises SpecError.
        """
        if steps < 1:
            raise SpecError("steps", f"must be at least 1, got {steps}")
        if self.timesteps is None:
            return replace(self, steps=steps)
        last = len(self.timesteps) - 1
        if steps > last + 1:
            raise SpecError("steps", f"this model has {last + 1} steps, got {steps}")
        kept = tuple(self.timesteps[round(i * last / max(steps - 1, 1))] for i in range(steps))
        return replace(self, steps=steps, timesteps=kept)

    def with_guidance(self, guidance: float) -> Recipe:
        """The same recipe with another guidance. Raises SpecError for a model that was distilled without."""
        if self.guidance == 0:
            raise SpecError("guidance", f"this model has none, got {guidance}")
        return replace(self, guidance=guidance)


@dataclass(frozen=True, slots=True)
class Recipes:
    """A model's recipes by the number of its references; None: it takes no such job."""

    text: Recipe
    one: Recipe | None = None
    several: Recipe | None = None

    def choose(self, references: int) -> Recipe:
        """The recipe for so many reference pictures. Raises SpecError."""
        recipe = (self.text, self.one)[references] if references < 2 else self.several
        if recipe is None:
            raise SpecError("references", f"this model takes no job with {references} reference pictures")
        return recipe


_DEV = Recipe("flash", 28, DEV_TIMESTEPS, noise_start=7.5, noise_end=7.5, noise_clip=2.5)
_FULL = Recipe("unipc", 50, shift=3.0, guidance=5.0)

RECIPES = {
    "dev": Recipes(_DEV, one=Recipe("flow_match", 28, DEV_TIMESTEPS), several=_DEV),
    "dev-2604": Recipes(Recipe("flash", 28, DEV_TIMESTEPS, noise_clip=8.0)),
    "full": Recipes(_FULL, one=_FULL, several=replace(_FULL, shift=1.0)),
}
