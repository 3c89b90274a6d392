"""What a program writes of a spec: its fields by name and type, so that an editor and mypy know them."""

# No `from __future__ import annotations`: with it, Python does not see which fields are required.
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NotRequired, Required, TypedDict

from pixelkiln.jobs.spec import Box, Priority, Quantization


class BoxFields(TypedDict):
    """A Box: edges as fractions of the picture's width (x) and height (y)."""

    x1: float
    x2: float
    y1: float
    y2: float
    text: NotRequired[str]


class SpecFields(TypedDict, total=False):
    """The fields of a RenderSpec as `Kiln.submit` takes them; what is left out has the model's default.

    Without `model` it is the settings' or one that a worker serves, without `quantization` the best of those
    that are there; without `width` and `height` an edit is as large as its model makes it of the picture.
    """

    version: Literal[1]
    prompt: Required[str]
    model: str
    quantization: Quantization
    width: int  # pixels
    height: int  # pixels
    seed: int | None  # absent: drawn, or derived from the id where one is given
    steps: int | None  # only where the model lets one choose
    guidance: float | None  # only where the model lets one choose
    references: Sequence[str | Path]  # a Path is uploaded; text is the name of an uploaded one
    keep_aspect: bool  # the picture takes the one reference's proportions
    layout: Sequence[Box | BoxFields]  # where each reference goes
    priority: Priority
    client: str  # absent: the settings'
    labels: dict[str, str]
    blend_seams: int  # radius in pixels
    strength: float | None  # of a model that renders its reference anew
    negative_prompt: str | None  # of a model whose guidance takes one
    coarse_steps: int  # so many of the first at half the side; fewer than steps
