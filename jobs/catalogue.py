"""The models a job may name, and what each one lets a job choose.

Data only: weights live with the workers, and a model is offered as soon as one of them has it. Whatever
differs between models stands here, and is a constant nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import gcd, isqrt

from pixelkiln.jobs.references import ANY, Fitted, Own, Rule, Shared

LIGHTNING = "-lightning"  # behind a model's name: the same with a LoRA for few steps in its weights
QUANTIZATIONS = ("bf16", "q8", "q6", "q5", "q4")  # widest first


@dataclass(frozen=True, slots=True)
class Setting:
    """A number of a model's recipe, and what a job may choose instead."""

    default: float
    range: tuple[float, float] | None = None  # smallest and largest; None: it is fixed
    distilled: bool = False  # trained for its default alone: another value is off its recipe


@dataclass(frozen=True, slots=True)
class Shares:
    """How many of the first steps `--fast` and `--draft` run at half the side."""

    fast: int  # of a model's usual steps: the most that change nothing beyond chance
    draft: tuple[int, int]  # steps, and coarse ones: a cheap picture that can be recognised


# Measured on the demo's model, see docs/quality.md.
LARGE = Shares(fast=21, draft=(14, 10))
SMALL = Shares(fast=14, draft=(8, 2))
ENOUGH = 3 / 4  # of a model's usual area: from there on it draws half a picture well


@dataclass(frozen=True, slots=True)
class Model:
    """What a job may ask of one model. Sides and sizes are in pixels."""

    name: str
    grid: int  # width and height are multiples of it
    min_side: int
    max_side: int
    max_pixels: int  # of width x height
    size: tuple[int, int]  # width, height where a job names none
    steps: Setting
    guidance: Setting  # above 1 a second, unconditional branch runs
    max_references: int = 0  # pictures a job may refer to
    min_references: int = 0  # and has to
    references: Rule = ANY  # which pictures these can be
    strength: bool = False  # whether the picture begins as its reference, which then needs a strength
    coarse: bool = False  # whether its first steps can run at half the side, without references
    negative_prompt: bool = False  # whether the second branch may have a prompt of its own
    keep_aspect: bool = False  # whether the picture can take the one reference's proportions
    layout: bool = False  # whether boxes may say where references go
    seams: bool = False  # whether pictures have seams along the grid, which blend_seams can blend
    quantizations: tuple[str, ...] = QUANTIZATIONS
    quantization: str = "q6"  # the one to choose where all are there
    cliff: int | None = None  # pixels above which the schedule is another, and pictures are reported worse

    def fits(self, width: int, height: int) -> bool:
        """Whether a picture may have this size."""
        on_grid = width % self.grid == height % self.grid == 0
        in_range = self.min_side <= min(width, height) <= max(width, height) <= self.max_side
        return on_grid and in_range and width * height <= self.max_pixels

    def shares(self, width: int, height: int) -> Shares:
        """Which shares of coarse steps suit a picture of this size."""
        halves = width % (2 * self.grid) == height % (2 * self.grid) == 0
        enough = width * height / 4 >= ENOUGH * self.size[0] * self.size[1]
        return LARGE if halves and enough else SMALL

    def preferred(self, offered: Collection[str]) -> str:
        """The quantization to choose of those offered: its own, else the next wider, else the next narrower.

        Its own where none is offered; of a model that does not have that, the widest.
        """
        have = [one for one in self.quantizations if one in offered]
        if not have:
            return self.quantization if self.quantization in self.quantizations else self.quantizations[0]
        wider = QUANTIZATIONS[: QUANTIZATIONS.index(self.quantization) + 1]
        return next((one for one in reversed(wider) if one in have), have[0])

    @property
    def largest_square(self) -> int:
        """The side of the largest square picture, in pixels."""
        return min(isqrt(self.max_pixels), self.max_side) // self.grid * self.grid

    def nearest(self, side: int) -> int:
        """The side nearest to this one that a square picture may have."""
        smallest = -(-self.min_side // self.grid) * self.grid
        return min(max(round(side / self.grid) * self.grid, smallest), self.largest_square)


_DEV = Model(
    "hidream-o1-dev",
    grid=32,  # one token covers a patch of 32 x 32
    min_side=64,
    max_side=4096,
    max_pixels=2048 * 2048,  # the area it was trained up to
    size=(1024, 1024),
    steps=Setting(28, (4, 28), distilled=True),  # fewer: the recipe's list, evenly thinned
    guidance=Setting(0.0),
    max_references=10,
    references=Shared(),
    keep_aspect=True,
    layout=True,
    seams=True,
    coarse=True,
)

_Z_IMAGE = Model(
    "z-image-turbo",
    grid=16,  # pixels of a latent (8) times those of a patch (2), as in those below
    min_side=16,
    max_side=8192,  # as far as its positions go
    max_pixels=2048 * 2048,  # reported good; four times that are reported broken
    size=(1024, 1024),
    steps=Setting(8, (1, 50)),
    guidance=Setting(0.0),
    max_references=1,
    references=Own(min_side=16),
    strength=True,
)

_KLEIN = Model(
    "flux2-klein-4b",
    grid=16,
    min_side=64,
    max_side=4096,
    max_pixels=2048 * 2048,  # documented up to four megapixels
    size=(1024, 1024),
    steps=Setting(4, (1, 50)),
    guidance=Setting(1.0),  # distilled: it would be ignored
    max_references=4,
    references=Own(),
    cliff=4300 * 16 * 16,  # tokens
)

_QWEN = Model(
    "qwen-image",
    grid=16,
    min_side=64,
    max_side=4096,
    max_pixels=2048 * 2048,
    size=(1328, 1328),
    steps=Setting(50, (2, 100)),  # the schedule's end is stretched, which one step has not
    guidance=Setting(4.0, (0.0, 20.0)),
    negative_prompt=True,
)
_QWEN_EDIT = replace(
    _QWEN,
    name="qwen-image-edit-2511",
    size=(1024, 1024),
    steps=Setting(40, (2, 100)),
    min_references=1,
    max_references=3,
    references=Fitted(),
)

_QWENS = (_QWEN, _QWEN_EDIT, replace(_QWEN_EDIT, name="qwen-image-edit-2509"))


def _lightning(model: Model) -> Model:
    """Guidance is in its weights; 8 steps where the LoRA is for so many."""
    steps, name = Setting(4, (2, 100)), f"{model.name}{LIGHTNING}"
    return replace(model, name=name, steps=steps, guidance=Setting(1.0), negative_prompt=False)


# In the order in which a job that names no model gets one of those that are served.
CATALOGUE: dict[str, Model] = {
    model.name: model
    for model in (
        _DEV,
        replace(_DEV, name="hidream-o1-dev-2604", max_references=0, keep_aspect=False, layout=False),
        replace(
            _DEV,
            name="hidream-o1-full",
            steps=Setting(50, (4, 100)),
            guidance=Setting(5.0, (0.0, 20.0)),
            coarse=False,
        ),
        _Z_IMAGE,
        _KLEIN,
        replace(
            _KLEIN,
            name="flux2-klein-base-4b",
            steps=Setting(50, (1, 100)),
            guidance=Setting(4.0, (0.0, 20.0)),
        ),
        *_QWENS,
        *map(_lightning, _QWENS),
        replace(
            _DEV,
            name="demo",
            size=(256, 256),
            max_references=0,
            keep_aspect=False,
            layout=False,
            quantization="bf16",  # as which it comes with the project
        ),
    )
}

DEFAULT_MODEL = next(iter(CATALOGUE))  # where a job names none

# What holds for all models, as the JSON Schema states it.
COMMON_GRID = gcd(*(model.grid for model in CATALOGUE.values()))
MIN_SIDE = min(model.min_side for model in CATALOGUE.values())
MAX_SIDE = max(model.max_side for model in CATALOGUE.values())
MAX_REFERENCES = max(model.max_references for model in CATALOGUE.values())
