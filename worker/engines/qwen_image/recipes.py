"""How the weights are sampled: a recipe is data, by the name that kiln.json has for it."""

from __future__ import annotations

from dataclasses import dataclass

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.qwen_image.config import ScheduleConfig
from pixelkiln.worker.engines.qwen_image.schedule import lightning, sigmas

NEGATIVE = " "  # the prompt of the second branch where a job names none


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to sample."""

    steps: int
    guidance: float  # above 1 a second branch runs
    lightning: bool = False  # made for few steps, without guidance

    @property
    def scheduler(self) -> str:
        """As a sidecar names it."""
        return "flow_match_lightning" if self.lightning else "flow_match_dynamic"

    def sigmas(self, config: ScheduleConfig, tokens: int) -> tuple[float, ...]:
        """Noise levels for a target of so many tokens, see schedule. Raises SpecError."""
        return sigmas(lightning(config) if self.lightning else config, self.steps, tokens)

    @property
    def guided(self) -> bool:
        """Whether a step runs two branches."""
        return self.guidance > 1

    def of(self, spec: RenderSpec) -> Recipe:
        """The recipe with what a job chooses instead. Raises SpecError for what has no part in it."""
        guidance = self.guidance if spec.guidance is None else spec.guidance
        if self.lightning and guidance > 1:
            raise SpecError(
                "guidance", f"{guidance:g}: Lightning's weights are made to run without; leave it out"
            )
        if spec.negative_prompt is not None and guidance <= 1:
            raise SpecError("negative_prompt", f"has no part at guidance {guidance:g}; leave it out")
        return Recipe(self.steps if spec.steps is None else spec.steps, guidance, self.lightning)


RECIPES = {
    "edit": Recipe(40, 4.0),
    "draw": Recipe(50, 4.0),
    "lightning-4": Recipe(4, 1.0, lightning=True),
    "lightning-8": Recipe(8, 1.0, lightning=True),
}
