"""How each model is sampled: a recipe is data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.manifest import NAME, Manifest
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.flux2.config import INDEX, is_distilled

SCHEDULER = "flow_match"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to sample."""

    distilled: bool  # guidance is in the weights
    steps: int
    guidance: float

    @property
    def guided(self) -> bool:
        """Whether a step runs a second, unconditional branch."""
        return self.guidance > 1 and not self.distilled

    def of(self, spec: RenderSpec) -> Recipe:
        """This recipe with what a job chooses."""
        steps = self.steps if spec.steps is None else spec.steps
        return replace(self, steps=steps, guidance=self.guidance if spec.guidance is None else spec.guidance)


RECIPES = {
    "distilled": Recipe(distilled=True, steps=4, guidance=1.0),
    "base": Recipe(distilled=False, steps=50, guidance=4.0),
}


def recipe_of(folder: Path, manifest: Manifest) -> Recipe:
    """A checkpoint's recipe. Raises CheckpointError where model_index.json says it is the other one."""
    if manifest.recipe not in RECIPES:
        known = ", ".join(RECIPES)
        raise CheckpointError(f"{folder / NAME}: recipe: {manifest.recipe!r}; there are {known}")
    recipe = RECIPES[manifest.recipe]
    if recipe.distilled != is_distilled(folder):
        raise CheckpointError(
            f"{folder / NAME} says recipe {manifest.recipe!r}, {INDEX} is_distilled {is_distilled(folder)}:"
            " these are another model's weights"
        )
    return recipe
