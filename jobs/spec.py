"""The wire record of one job: what a producer may ask for, and nothing else.

`RenderSpec` is decoded in one place on each side (`RenderSpec.parse`) with one error (`SpecError`).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from jobs.catalogue import CATALOGUE, GRID, MAX_PIXELS, MAX_SIDE, MIN_SIDE, QUANTIZATIONS
from jobs.errors import SpecError

MAX_PROMPT = 4000  # characters
MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MAX_REFERENCES = 10
MAX_BOXES = 10
MAX_LABELS = 16
MAX_WIRE = 64 * 1024  # bytes of JSON

PRIORITIES = ("high", "normal", "low")  # best first

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
LabelValue = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Box(BaseModel):
    """Where a reference should go, as fractions of the picture's width and height."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x1: Fraction
    x2: Fraction
    y1: Fraction
    y2: Fraction
    text: Annotated[str, StringConstraints(max_length=200)] = ""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise ValueError("a box needs x1 < x2 and y1 < y2")
        return self


class RenderSpec(BaseModel):
    """One picture to render. Frozen; unknown fields are refused; sizes are in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, title="pixelkiln render spec")

    version: Literal[1] = 1
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
    model: str = "hidream-o1-dev"
    quantization: Literal["bf16", "q8", "q6", "q5", "q4"] = "bf16"
    width: int = 1024
    height: int = 1024
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        default=None, description="drawn at submit, or derived from the job's id, when absent"
    )
    steps: int | None = None
    guidance: float | None = None
    references: Annotated[tuple[Sha256, ...], Field(strict=False, max_length=MAX_REFERENCES)] = ()
    keep_aspect: bool = False
    layout: Annotated[tuple[Box, ...], Field(strict=False, max_length=MAX_BOXES)] = ()
    priority: Literal["high", "normal", "low"] = "normal"
    client: Name = "default"
    labels: Annotated[dict[Name, LabelValue], Field(max_length=MAX_LABELS)] = {}
    blend_seams: Annotated[int, Field(ge=0, le=8)] = 0
