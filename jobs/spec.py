"""The wire record of one job: what a producer may ask for, and nothing else.

`RenderSpec` is decoded in one place on each side, `RenderSpec.parse`, with one error, `SpecError`.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pixelkiln.jobs import proportions
from pixelkiln.jobs.catalogue import (
    CATALOGUE,
    COMMON_GRID,
    DEFAULT_MODEL,
    MAX_REFERENCES,
    MAX_SIDE,
    MIN_SIDE,
    Model,
    Setting,
)
from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.hints import hint
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.visible import is_visible

MAX_PROMPT = 4000  # characters
MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exact
MAX_LABELS = 16
MAX_BLEND = 8  # pixels on each side of a seam
MAX_WIRE = 128 * 1024  # bytes of JSON; escaped, a character may need twelve

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # tab and newline are text

Priority = Literal["high", "normal", "low"]  # best first
Quantization = Literal["bf16", "q8", "q6", "q5", "q4"]
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,47}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
LabelValue = Annotated[str, StringConstraints(max_length=200)]
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE, json_schema_extra={"multipleOf": COMMON_GRID})]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Box(BaseModel):
    """Where a reference should go: edges as fractions of the picture's width (x) and height (y)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    x1: Fraction
    x2: Fraction
    y1: Fraction
    y2: Fraction
    text: Annotated[str, StringConstraints(max_length=200)] = ""


class _InOneLine(type(BaseModel)):  # type: ignore[misc] # pydantic names its own elsewhere in each version
    """A spec that a program makes by its class is refused as one that it submits."""

    def __call__(cls, *given: Any, **fields: Any) -> Any:
        try:
            return super().__call__(*given, **fields)
        except ValidationError as error:
            raise _readable(error) from None


class RenderSpec(BaseModel, metaclass=_InOneLine):
    """One picture to render. Frozen; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, title="pixelkiln render spec")

    version: Literal[1] = 1
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PROMPT)]
    model: Annotated[str, Field(json_schema_extra={"enum": list(CATALOGUE)})] = DEFAULT_MODEL
    quantization: Quantization = "bf16"
    width: Side = 1024
    height: Side = 1024
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = (
        None  # absent: drawn at submit, or from the job's id
    )
    steps: int | None = None  # absent: the recipe's own
    guidance: float | None = None  # absent: the recipe's own
    references: Annotated[tuple[Sha256, ...], Field(strict=False, max_length=MAX_REFERENCES)] = ()
    keep_aspect: bool = False  # the picture takes the one reference's proportions
    layout: Annotated[tuple[Box, ...], Field(strict=False, max_length=MAX_REFERENCES)] = ()
    priority: Priority = "normal"
    client: Name = "default"
    labels: Annotated[dict[Name, LabelValue], Field(max_length=MAX_LABELS)] = {}
    blend_seams: Annotated[int, Field(ge=0, le=MAX_BLEND)] = 0  # radius in pixels; 0 leaves the seams alone

    @classmethod
    def parse(cls, data: Mapping[str, Any] | str | bytes) -> Self:
        """Decode and check one spec, from JSON or from a mapping of its fields.

        Raises SpecError, naming the field and what it may be.
        """
        if isinstance(data, str | bytes):
            data = _decode(data)
        if not isinstance(data, Mapping):
            raise SpecError("spec", f"must be an object of fields, not {type(data).__name__}")
        name = data.get("model", DEFAULT_MODEL)
        model = CATALOGUE.get(name) if isinstance(name, str) else None
        size = {"width": model.size[0], "height": model.size[1]} if model else {}
        try:
            spec = cls.model_validate({**size, **data})
        except ValidationError as error:
            raise _readable(error) from None
        spec._check()
        return spec

    @property
    def lane(self) -> Lane:
        """The lane this job waits in."""
        return Lane(self.model, self.quantization, self.priority, self.client)

    def reference_fault(self, size: tuple[int, int]) -> str:
        """Why a picture of `size` (width, height in pixels) cannot be a reference of this; '' if it can."""
        target = (self.width, self.height)
        return proportions.fault(target, len(self.references), bool(self.layout), self.keep_aspect, size)

    def with_seed(self, job_id: str | None = None) -> Self:
        """This spec with a seed: its own, else derived from `job_id`, else (no id given) drawn now."""
        if self.seed is not None:
            return self
        if job_id is None:
            seed = secrets.randbelow(MAX_SEED + 1)
        else:
            seed = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8], "big") & MAX_SEED
        return self.model_copy(update={"seed": seed})

    def differs(self, other: RenderSpec) -> list[str]:
        """The fields in which two jobs are not one: not priority and labels, which no picture shows."""
        fields = type(self).model_fields.keys() - {"priority", "labels"}
        return sorted(name for name in fields if getattr(self, name) != getattr(other, name))

    def wire(self) -> dict[str, Any]:
        """The JSON form: what is at its default is left out, unless the default is the model's own."""
        sizes = {"width": self.width, "height": self.height}
        return {"version": self.version, **self.model_dump(mode="json", exclude_defaults=True), **sizes}

    def _check(self) -> None:
        """What pydantic's field constraints cannot say, or say badly."""
        model = CATALOGUE.get(self.model)
        if model is None:
            raise SpecError("model", f"no model {self.model[:60]!r}; there are {', '.join(CATALOGUE)}")
        _check_text("prompt", self.prompt)
        if not is_visible(self.prompt):
            raise SpecError("prompt", "is empty")
        for name, value in self.labels.items():
            _check_text(f"labels.{name}", value)
        if self.quantization not in model.quantizations:
            raise SpecError(
                "quantization", f"{model.name} has {', '.join(model.quantizations)}, not {self.quantization}"
            )
        _check_side("width", self.width, model)
        _check_side("height", self.height, model)
        if self.width * self.height > model.max_pixels:
            square = f"{model.largest_square} x {model.largest_square}"
            raise SpecError(
                "width, height",
                f"{self.width} x {self.height} is {self.width * self.height:,} pixels; "
                f"the limit is {model.max_pixels:,} ({square})",
            )
        _check_setting("steps", self.steps, model.steps, model)
        _check_setting("guidance", self.guidance, model.guidance, model)
        self._check_references(model)
        if self.blend_seams and not model.seams:
            raise SpecError("blend_seams", f"{model.name} leaves no seams; leave it out")

    def _check_references(self, model: Model) -> None:
        if len(self.references) > model.max_references:
            allowed = f"at most {model.max_references}" if model.max_references else "no"
            raise SpecError("references", f"{model.name} takes {allowed} reference pictures")
        if self.keep_aspect and len(self.references) != 1:
            raise SpecError("keep_aspect", "needs exactly one reference picture")
        target, count = (self.width, self.height), len(self.references)
        if proportions.are_too_many(target, count, bool(self.layout), self.keep_aspect):
            larger = f"{count} are too many for {self.width} x {self.height}; make that larger"
            raise SpecError("references", larger)
        if len(self.layout) > len(self.references):
            raise SpecError(
                "layout", f"{len(self.layout)} boxes for {len(self.references)} reference pictures"
            )
        if self.layout and not model.layout:
            raise SpecError("layout", f"{model.name} takes no boxes; leave it out")
        for index, box in enumerate(self.layout):
            _check_text(f"layout.{index}.text", box.text)
            if box.x1 >= box.x2 or box.y1 >= box.y2:
                raise SpecError(f"layout.{index}", "a box needs x1 < x2 and y1 < y2")


def _decode(data: str | bytes) -> Any:
    if len(data) > MAX_WIRE:
        raise SpecError("spec", f"is {len(data):,} bytes; the limit is {MAX_WIRE:,}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SpecError("spec", f"is not JSON: {error}") from None


def _check_text(field: str, text: str) -> None:
    found = _CONTROL.search(text)
    if found:
        raise SpecError(
            field, f"holds the control character U+{ord(found.group()):04X} at position {found.start()}"
        )


def _check_side(field: str, side: int, model: Model) -> None:
    if side < model.min_side:
        raise SpecError(field, f"must be greater than or equal to {model.min_side}, not {side}")
    if side > model.max_side:
        raise SpecError(field, f"must be less than or equal to {model.max_side}, not {side}")
    if side % model.grid:
        below = side - side % model.grid
        near = [str(one) for one in (below, below + model.grid) if model.min_side <= one <= model.max_side]
        nearest = f"the nearest {'is' if len(near) == 1 else 'are'} {' and '.join(near)}"
        raise SpecError(field, f"{side} is not a multiple of {model.grid}; {nearest}")


def _check_setting(field: str, value: float | None, setting: Setting, model: Model) -> None:
    if value is None:
        return
    if setting.range is None:
        raise SpecError(field, f"{model.name} has its own, fixed by its recipe; leave it out")
    low, high = setting.range
    if not low <= value <= high:
        raise SpecError(field, f"{_glimpse(value)} is out of range; {model.name} takes {low} to {high}")


_PLAIN = {
    "missing": "is missing",
    "string_too_short": "is empty",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "string_unicode": "is not valid Unicode text",
}
_PATTERNS = {
    NAME_PATTERN: "must be 1 to 48 of a-z, 0-9, - and _, beginning with a letter or digit",
    SHA256_PATTERN: "must be 64 hexadecimal digits, the picture's sha256",
}


def _readable(error: ValidationError) -> SpecError:
    """The first of pydantic's findings as one line; never more than a glimpse of the value."""
    first = error.errors(include_url=False)[0]
    field = ".".join(_printable(str(part)[:60]) for part in first["loc"] if part != "[key]") or "spec"
    kind, value, limits = first["type"], first["input"], first.get("ctx", {})
    if kind == "extra_forbidden":
        return SpecError(field, f"no such field; there are {', '.join(RenderSpec.model_fields)}")
    if kind in _PLAIN:
        return SpecError(field, _PLAIN[kind])
    if kind == "string_too_long":
        return SpecError(field, f"is {len(value):,} characters; the limit is {limits['max_length']:,}")
    if kind == "string_pattern_mismatch":
        return SpecError(field, _PATTERNS[limits["pattern"]])
    message = first["msg"][:1].lower() + first["msg"][1:]
    message = message.replace("input should", "must", 1).replace("must have", "may have", 1)
    glimpse = _glimpse(value) if isinstance(value, str | int | float | bool | None) else ""
    if not 0 < len(glimpse) <= 60:
        return SpecError(field, message)
    return SpecError(field, f"{message}, not {glimpse}{hint(field, value)}")


def _glimpse(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 200:  # Python refuses to write out the largest
        return "a number that long"
    return repr(value)


def _printable(name: str) -> str:
    """A name that strangers chose, so that a message stays one line."""
    return name if name.isprintable() else ascii(name)
