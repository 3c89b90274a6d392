"""The models a job may name, and what each one's recipe lets a job choose.

Data only: weights live with the workers, and a model is offered as soon as one of them has it.
"""

from __future__ import annotations

from dataclasses import dataclass

GRID = 32  # pixels: one token covers a GRID × GRID patch, so sizes come in multiples of it
MIN_SIDE = 64  # pixels
MAX_SIDE = 4096  # pixels
MAX_PIXELS = 2048 * 2048  # the area the models were trained up to

QUANTIZATIONS = ("bf16", "q8", "q6", "q5", "q4")


@dataclass(frozen=True, slots=True)
class Model:
    """What a job may ask of one model."""

    name: str
    size: tuple[int, int] = (1024, 1024)  # width, height in pixels where a job names none
    steps: tuple[int, int] | None = None  # smallest and largest count a job may choose; None: fixed
    guidance: tuple[float, float] | None = None  # range a job may choose; None: fixed
    max_references: int = 0  # pictures a job may refer to


CATALOGUE: dict[str, Model] = {
    model.name: model
    for model in (
        Model("hidream-o1-dev", max_references=10),
        Model("hidream-o1-dev-2604"),
        Model("hidream-o1-full", steps=(4, 100), guidance=(0.0, 20.0), max_references=10),
        Model("demo", size=(256, 256)),
    )
}

DEFAULT_MODEL = "hidream-o1-dev"  # where a job names none
