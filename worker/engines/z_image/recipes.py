"""How the model is sampled, and telling Turbo's weights from the base model's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelkiln.worker.engines.checkpoints.manifest import NAME
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.z_image.config import SCHEDULER, Config

BASE_SHIFT = 6.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Euler's method without guidance."""

    name: str
    steps: int
    shift: float


RECIPES = {"turbo": Recipe("turbo", 8, 3.0)}


def recipe_in(folder: Path, config: Config, name: str = "turbo") -> Recipe:
    """The recipe of a folder's weights. Raises CheckpointError for another model's."""
    if name not in RECIPES:
        raise CheckpointError(f"{folder / NAME}: recipe: {name!r}; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if config.shift != recipe.shift:
        whose = "Z-Image's (base)" if config.shift == BASE_SHIFT else "no known model's"
        raise CheckpointError(
            f"{folder / SCHEDULER / 'scheduler_config.json'}: shift is {config.shift:g}, {whose}, and "
            f"Z-Image-Turbo's is {recipe.shift:g}: only Turbo is rendered here, pull z-image-turbo"
        )
    return recipe
